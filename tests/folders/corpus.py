"""Folders such as people have, made by code, each with what should be understood of it.

`python -m tests.folders.corpus` prints them as a table.
"""

import os
import socket
import struct
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ddpm_cli.data.formats import missing_package
from ddpm_cli.data.image_folder import ImageFolder
from ddpm_cli.errors import DataError


@dataclass
class Folder:
    """
    Args:
        make: fills an empty folder.
        pictures: how many are found in all splits together; 0 = an error.
        classes: their names.
        lines: parts of the lines that are printed, besides the first one; or of the error.
        options: of the dataset.
        trains: whether to train on it too; the same kind of folder need not be trained on twice.
    """

    make: Callable[[Path], None]
    pictures: int
    classes: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    trains: bool = False


FOLDERS: dict[str, Folder] = {}
GREY = "all pictures are grey; with dataset.channels=1"


def folder(
    pictures: int, *lines: str, classes: tuple[str, ...] = (), trains: bool = False, **options: Any
) -> Callable[[Callable[[Path], None]], Callable[[Path], None]]:
    def add(make: Callable[[Path], None]) -> Callable[[Path], None]:
        FOLDERS[make.__name__] = Folder(make, pictures, classes, lines, options, trains)
        return make

    return add


def picture(path: Path, number: int = 0, size: tuple[int, int] = (20, 16), mode: str = "RGB", **kw: Any) -> Path:
    """A picture that differs from those with another number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([number, zlib.crc32(os.fsencode(Path(*path.parts[-3:])))])
    noise = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    noise[..., number % 3] = 255
    Image.fromarray(noise).convert(mode).save(path, **kw)
    return path


def pictures(root: Path, n: int, suffix: str = ".png", **kw: Any) -> None:
    for i in range(n):
        picture(root / f"{i:03}{suffix}", i, **kw)


def deep(path: Path, low: float, high: float, dtype: Any = np.uint16) -> None:
    """A grey TIFF or PNG with values from low to high."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.linspace(low, high, 256).reshape(16, 16).astype(dtype)).save(path)


@folder(8, trains=True)
def phone_photos(root: Path) -> None:
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        picture(root / f"IMG_{orientation:04}.JPG", orientation, (48, 64), exif=exif)


@folder(6, trains=True)
def screenshots_with_alpha(root: Path) -> None:
    pictures(root, 6, mode="RGBA")


@folder(4, GREY, "4 files have several pages or frames")
def scans_of_several_pages(root: Path) -> None:
    root.mkdir(exist_ok=True)
    for i in range(4):
        pages = [Image.new("L", (20, 30), 60 * i + page) for page in range(3)]
        pages[0].save(root / f"scan{i}.tif", save_all=True, append_images=pages[1:])


@folder(6, GREY, "6 pictures have more than 8 bits", "dataset.range=[0,4095] stretches them", trains=True)
def microscope_12_bits(root: Path) -> None:
    for i in range(6):
        deep(root / f"stack_{i}.tif", 0, 4095 - i)


@folder(5, GREY, "values from 3 to 65535; black to white is 0 to 65535")
def microscope_16_bits(root: Path) -> None:
    for i in range(5):
        deep(root / f"{i}.png", 3 + i, 65535)


@folder(5, GREY, "values from 0 to 1.004; black to white is 0 to 1.004", trains=True)
def float_tiffs(root: Path) -> None:
    for i in range(5):
        deep(root / f"{i}.tiff", 0, 1.004 if i == 0 else 1.0 - i / 1e4, np.float32)


@folder(4, GREY, "values from -1000 to 3000; black to white is -1000 to 3000")
def signed_values(root: Path) -> None:
    for i in range(4):
        deep(root / f"ct{i}.tif", -1000 + i, 3000 - i, np.int32)


@folder(4, GREY, "values that are no numbers", "values from 0 to 1;")
def not_a_number(root: Path) -> None:
    for i in range(4):
        values = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
        values[i, i] = np.nan
        root.mkdir(exist_ok=True)
        Image.fromarray(values).save(root / f"{i}.tif")


@folder(8, GREY, "4 pictures have more than 8 bits")
def eight_and_sixteen_bits(root: Path) -> None:
    pictures(root, 4, mode="L")
    for i in range(4):
        deep(root / f"deep{i}.png", 0, 65535 - i)


@folder(5, GREY, "the pictures use only the values 1 to 38 of 255")
def dark_pictures(root: Path) -> None:
    root.mkdir(exist_ok=True)
    for i in range(5):
        Image.fromarray(np.linspace(0, 40 - i, 256).reshape(16, 16).astype(np.uint8)).save(root / f"{i}.png")


@folder(6, classes=("batman", "tintin"), trains=True)
def comics_as_jfif(root: Path) -> None:
    pictures(root / "batman", 3, ".jfif", format="JPEG")
    pictures(root / "tintin", 3, ".jpe", format="JPEG")


@folder(4)
def without_a_suffix(root: Path) -> None:
    for i in range(4):
        picture(root / f"{i:x}f3a9", i, format="PNG")


@folder(3)
def with_wrong_suffixes(root: Path) -> None:
    picture(root / "a.dat", 1, format="PNG")
    picture(root / "b.png", 2, format="JPEG")
    picture(root / "c.txt", 3, format="GIF")


AVIF = not missing_package("AVIF")


@folder(4 if AVIF else 2)
def webp_and_avif(root: Path) -> None:
    pictures(root, 2, ".webp")
    if AVIF:
        picture(root / "a.avif", 7)
        picture(root / "b.AVIF", 8)


@folder(2, "left out 2 HEIC pictures, which cannot be read; pip install 'ddpm-cli[heif]'")
def heic_from_a_phone(root: Path) -> None:
    pictures(root, 2)
    for i in range(2):
        (root / f"IMG_{i}.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))


@folder(10, classes=("n01440764", "n01443537", "n01484850", "n01491361", "n01494475"), trains=True)
def like_imagenet(root: Path) -> None:
    for i, name in enumerate(("n01440764", "n01443537", "n01484850", "n01491361", "n01494475")):
        for k in range(2):
            picture(root / name / f"{name}_{k}.JPEG", 10 * i + k)


@folder(
    8, "left out 3 pictures of test that are in no class of train", "left out 1 file without a picture: 1 .csv",
    "these folders are splits, not classes: train (8)", classes=("cat", "dog"), trains=True,
)  # fmt: skip
def kaggle_download(root: Path) -> None:
    pictures(root / "train" / "cat", 4, ".jpg")
    pictures(root / "train" / "dog", 4, ".jpg")
    pictures(root / "test", 3, ".jpg")
    (root / "sample_submission.csv").write_text("id,label\n")


@folder(
    14, "these folders are splits, not classes: test (2), train (8), valid (4)", classes=("cat", "dog"), trains=True
)
def train_valid_test(root: Path) -> None:
    for split, n in (("train", 4), ("valid", 2), ("test", 1)):
        for name in ("cat", "dog"):
            pictures(root / split / name, n)


@folder(9, "these folders are splits, not classes: Test (3), Train (6)")
def splits_without_classes(root: Path) -> None:
    pictures(root / "Train", 6)
    pictures(root / "Test", 3)


@folder(6, "the folders test, val are taken as classes; for splits, name one of them train", classes=("test", "val"))
def val_and_test_alone(root: Path) -> None:
    pictures(root / "val", 3)
    pictures(root / "test", 3)


@folder(8, "are taken as classes; if images has the pictures", classes=("images", "masks"))
def images_and_masks(root: Path) -> None:
    pictures(root / "images", 4)
    pictures(root / "masks", 4, mode="1")


@folder(3)
def litter_of_macos(root: Path) -> None:
    pictures(root, 3)
    picture(root / "__MACOSX" / "000.png")
    for name in (".DS_Store", "._000.png", "Icon\r"):
        (root / name).write_bytes(b"\0\5\x16\7")


@folder(3)
def litter_of_windows(root: Path) -> None:
    pictures(root, 3)
    for name in ("Thumbs.db", "desktop.ini"):
        (root / name).write_bytes(b"\xd0\xcf\x11\xe0")


SCRIPTS = ("Καφές", "кофе", "قهوة", "कॉफ़ी", "咖啡", "커피")


@folder(12, classes=SCRIPTS, trains=True)
def six_scripts(root: Path) -> None:
    for name in SCRIPTS:
        pictures(root / name, 2)


@folder(8, classes=("007", "1", "2", "3"), trains=True)
def classes_called_by_numbers(root: Path) -> None:
    for name in ("1", "2", "3", "007"):
        pictures(root / name, 2)


@folder(4, "left out 1 picture beside the class folders: cover.png", classes=("cat", "dog"))
def a_stray_picture(root: Path) -> None:
    pictures(root / "cat", 2)
    pictures(root / "dog", 2)
    picture(root / "cover.png")


@folder(9, "the folders old, thumbs are no classes")
def more_beside_than_in_folders(root: Path) -> None:
    pictures(root, 6)
    pictures(root / "old", 2)
    pictures(root / "thumbs", 1)


@folder(4, "no pictures in 1 folder: b", classes=("a", "c"))
def an_empty_class(root: Path) -> None:
    pictures(root / "a", 2)
    (root / "b").mkdir()
    pictures(root / "c", 2)


@folder(3, "left out 2 files without a picture: 2 broken link")
def links_in_circles(root: Path) -> None:
    pictures(root / "real", 3)
    (root / "real" / "up").symlink_to(root)
    (root / "again").symlink_to(root / "real")
    (root / "itself").symlink_to(root / "itself")
    (root / "gone.png").symlink_to(root / "nowhere.png")


@folder(2, "4 device or pipe")
def pipes_and_devices(root: Path) -> None:
    pictures(root, 2)
    os.mkfifo(root / "pipe.png")
    os.mkfifo(root / "pipe")
    (root / "zero.png").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(root / "socket.png"))


def _damaged(root: Path) -> None:
    pictures(root, 4)
    whole = picture(root / "whole.jpg", size=(64, 64)).read_bytes()
    png = (root / "000.png").read_bytes()
    spoiled = {
        "cut.jpg": whole[: len(whole) // 2],
        "empty.png": b"",
        "page.jpg": b"<!DOCTYPE html><html>quota exceeded</html>",
        "text.png": b"hello",
        "crc.png": png[:40] + b"\xff\xff" + png[42:],
        "cut.png": png[:60],
        "head.gif": b"GIF89a",
        "random.webp": b"RIFF\x10\0\0\0WEBPVP8 " + bytes(20),
        "noise.bmp": bytes(range(200)),
        "cut.tif": b"II*\0\x08\0\0\0",
    }
    for name, content in spoiled.items():
        (root / name).write_bytes(content)


@folder(0, "is not a readable picture", "set dataset.skip_damaged=true")
def damaged_in_ten_ways(root: Path) -> None:
    _damaged(root)


@folder(5, skip_damaged=True, trains=True)
def damaged_and_skipped(root: Path) -> None:
    _damaged(root)


def bomb(path: Path, side: int) -> None:
    """A PNG whose header promises side x side pixels."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    data = b"IDAT" + zlib.compress(b"\0" * 100)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", len(header)) + chunk + struct.pack(">I", zlib.crc32(chunk))
        + struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))
    )  # fmt: skip


@folder(0, "30000", "is not a readable picture")
def thirty_thousand_pixels_wide(root: Path) -> None:
    pictures(root, 2)
    bomb(root / "30000.png", 30_000)


@folder(6)
def cmyk_palettes_and_bits(root: Path) -> None:
    picture(root / "a.jpg", mode="CMYK")
    picture(root / "b.gif", 1, mode="P")
    picture(root / "c.png", 2, mode="P")
    picture(root / "d.png", 3, mode="1")
    picture(root / "e.png", 4, mode="LA")
    picture(root / "f.tif", 5, mode="CMYK")


@folder(3, "3 files have several pages or frames")
def animations(root: Path) -> None:
    for i, suffix in enumerate((".gif", ".webp", ".png")):
        frames = [Image.new("RGB", (16, 16), (60 * i, 20 * k, 10)) for k in range(4)]
        root.mkdir(exist_ok=True)
        frames[0].save(root / f"{i}{suffix}", save_all=True, append_images=frames[1:])


@folder(4, "left out 6 files without a picture: 2 .npy, 1 ")
def data_of_other_kinds(root: Path) -> None:
    pictures(root, 4)
    np.save(root / "a.npy", np.zeros(3))
    np.save(root / "b.npy", np.zeros(3))
    (root / "labels.csv").write_text("a,b\n")
    (root / "film.mp4").write_bytes(b"\0\0\0\x20ftypisom" + bytes(50))
    (root / "logo.svg").write_text("<svg/>")
    (root / "README").write_text("BM is not a bitmap\n")


@folder(4, "2 pictures are equal to others")
def equal_pictures(root: Path) -> None:
    pictures(root, 2)
    for i in range(2):
        (root / f"copy{i}.png").write_bytes((root / f"00{i}.png").read_bytes())


@folder(5, "left out 7 pictures that this program wrote", trains=True)
def with_our_own_outputs(root: Path) -> None:
    pictures(root, 5)
    run = root / "outputs" / "run"
    pictures(run / "samples", 2)
    (run / "checkpoints").mkdir()
    (run / "config.json").write_text('{"trainer": {}, "dataset": {}}')
    (run / ".lock").write_text("")
    drawn = root / "out"
    for i in range(4):
        picture(drawn / "images" / f"{i:06}.png", i)
    picture(drawn / "grid.png")
    (drawn / "sample.json").write_text('{"checkpoint_sha256": "0", "n": 4}')


@folder(4, classes=("[red]x", "a\nb", "esc\x1b[31m", "tab\t"), trains=True)
def names_with_markup_and_escapes(root: Path) -> None:
    for name in ("[red]x", "a\nb", "esc\x1b[31m", "tab\t"):
        picture(root / name / "x.png")


@folder(2, classes=("br\udcfccke", "dom"), trains=True)
def names_that_are_not_utf8(root: Path) -> None:
    for name in (b"br\xfccke", b"dom"):
        picture(root / os.fsdecode(name) / "x.png")


@folder(4, classes=("Cat", "cat"))
def names_that_differ_in_case(root: Path) -> None:
    for name in ("Cat", "cat"):
        pictures(root / name, 2)


@folder(4, "no classes, as there is a single folder, archive")
def classes_one_level_down(root: Path) -> None:
    pictures(root / "archive" / "cat", 2)
    pictures(root / "archive" / "dog", 2)


@folder(6, classes=("a", "b"))
def nested_deeply(root: Path) -> None:
    for name in ("a", "b"):
        for k in range(3):
            picture(root / name / "x" / str(k) / f"{name}.png", k)


@folder(1)
def a_single_picture(root: Path) -> None:
    pictures(root, 1)


@folder(0, "has no pictures", "left out 1 file without a picture: 1 .txt")
def no_picture_at_all(root: Path) -> None:
    (root / "notes.txt").write_text("nothing here")


@folder(3)
def read_only(root: Path) -> None:
    pictures(root, 3)
    root.chmod(0o555)


@folder(2_000, "1,999 pictures are equal to others")
def many_tiny_files(root: Path) -> None:
    data = picture(root / "00000.png", size=(2, 2)).read_bytes()
    for i in range(1, 2_000):
        (root / f"{i:05}.png").write_bytes(data)


def load(name: str, root: Path) -> tuple[int, tuple[str, ...], tuple[str, ...]]:
    """The number of pictures, the classes and the lines of a folder. Raises DataError."""
    options = {"root": str(root), "size": 8, "split_rule": "path", "val_fraction": 0.2, "cache": False}
    source = ImageFolder(**options | FOLDERS[name].options)  # type: ignore[arg-type]
    train, val = source.load("train"), source.load("val")
    test = len(source.load("test")) if source.has_test else 0
    assert train.facts is not None
    return len(train) + len(val) + test, train.class_names, (*train.facts.lines, *train.facts.warnings)


def main() -> None:
    """Print the table."""
    print("| folder | pictures | classes | lines | seconds |\n|---|---:|---|---|---:|")
    for name, about in FOLDERS.items():
        with tempfile.TemporaryDirectory() as place:
            root = Path(place, "d")
            root.mkdir()
            about.make(root)
            began = time.perf_counter()
            try:
                n, classes, lines = load(name, root)
            except DataError as error:
                n, classes, lines = 0, (), (f"error: {error}",)
            seconds = time.perf_counter() - began
            text = "<br>".join(line.replace(str(root), "d").replace("|", "\\|") for line in lines)
            shown = ", ".join(classes).encode("utf-8", "backslashreplace").decode().encode("unicode_escape").decode()
            print(f"| {name} | {n:,} | {shown} | {text} | {seconds:.2f} |")


if __name__ == "__main__":
    sys.exit(main())
