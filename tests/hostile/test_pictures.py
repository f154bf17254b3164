"""Pictures and archives of pictures: nothing is run, nothing is read or written elsewhere, nothing fills the memory."""

import gzip
import io
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ..conftest import TINY, Cli
from .strangers import Stranger, check_answer

POSTSCRIPT = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\n"
    b"(ran) (w) file closefile\n%pipe%touch ran\nshowpage\n%%EOF\n"
)


def png(width: int, height: int, data: bytes = b"", more: bytes = b"") -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + more + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def text_chunk(n: int) -> bytes:
    content = b"x\0\0" + zlib.compress(b"a" * n)
    return struct.pack(">I", len(content)) + b"zTXt" + content + struct.pack(">I", zlib.crc32(b"zTXt" + content))


def picture(kind: str, size: tuple[int, int] = (20, 20)) -> bytes:
    file = io.BytesIO()
    Image.new("L", size).save(file, kind)
    return file.getvalue()


def gif(width: int, height: int, frames: int) -> bytes:
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    return head + frame * frames + b"\x3b"


PICTURES: dict[str, Callable[[], bytes]] = {
    "postscript": lambda: POSTSCRIPT,
    "eps": lambda: b"\xc5\xd0\xd3\xc6" + struct.pack("<6I", 32, len(POSTSCRIPT), 0, 0, 0, 0) + bytes(4) + POSTSCRIPT,
    "pdf": lambda: b"%PDF-1.7\n1 0 obj<</OpenAction<</S/Launch/F(touch ran)>>>>endobj\n%%EOF",
    "svg": lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/><script>1</script></svg>',
    "xxe": lambda: b'<?xml version="1.0"?><!DOCTYPE s [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg>&x;</svg>',
    "laughs": lambda: b'<!DOCTYPE l [<!ENTITY a "l"><!ENTITY b "&a;&a;&a;">]><svg>&b;</svg>',
    "msl": lambda: b'<image><read filename="/etc/passwd"/><write filename="ran"/></image>',
    "mvg": lambda: b'push graphic-context\nfill \'url(https://127.0.0.1/"|touch "ran)\'\npop graphic-context',
    "wmf": lambda: b"\xd7\xcd\xc6\x9a" + bytes(100),
    "emf": lambda: b"\x01\0\0\0" + bytes(36) + b" EMF" + bytes(100),
    "fits": lambda: b"SIMPLE  =                    T" + b" " * 2850,
    "spider": lambda: struct.pack(">27f", *([1.0] * 27)),
    "xpm": lambda: b'/* XPM */\nstatic char *x[] = {\n"1000000 1000000 2 1",\n"a c #000000",\n"b c #ffffff"\n};',
    "30,000 x 30,000": lambda: png(30_000, 30_000, bytes(100_000)),
    "2^31 x 2^31": lambda: png(2**31 - 1, 2**31 - 1),
    "13,000 x 13,000, no data": lambda: png(13_000, 13_000),
    "no width": lambda: png(0, 8),
    "text of 500 MB": lambda: png(8, 8, bytes(72), text_chunk(500_000_000)),
    "many texts": lambda: png(8, 8, bytes(72), text_chunk(10) * 5000),
    "bmp of 2^31": lambda: b"BM" + struct.pack("<IHHIIiiHHIIiiII", 1000, 0, 0, 54, 40, 2**31 - 1, 2**31 - 1, 1, 24, 0, 0, 0, 0, 0, 0),
    "pgm of 10^9": lambda: b"P5 1000000000 1000000000 255\n",
    "pgm of 10^40": lambda: b"P5 " + b"9" * 40 + b" 1 255\n",
    "gif of 65535^2": lambda: gif(65535, 65535, 1),
    "gif of 100,000 frames": lambda: gif(8, 8, 100_000),
    "tiff in a circle": lambda: b"II*\0\x08\0\0\0\0\0\x08\0\0\0",
    "tiff of 2^32": lambda: b"II*\0\x08\0\0\0\x02\0\0\x01\x04\0\x01\0\0\0\xff\xff\xff\xff\x01\x01\x04\0\x01\0\0\0\xff\xff\xff\xff\0\0\0\0",
    "webp cut": lambda: picture("WEBP")[:30],
    "jpeg cut": lambda: picture("JPEG")[:-100],
    "jpeg, exif in a circle": lambda: picture("JPEG")[:2] + b"\xff\xe1\0\x20Exif\0\0II*\0\x08\0\0\0\x01\0\x69\x87\x04\0\x01\0\0\0\x08\0\0\0" + picture("JPEG")[2:],
    "jpeg 2000 cut": lambda: b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(60),
    "avif cut": lambda: b"\0\0\0\x1cftypavif" + bytes(60),
    "png and zip": lambda: picture("PNG") + b"PK\x03\x04" + bytes(100),
    "html": lambda: b"<html><script>alert(1)</script></html>",
    "nothing": lambda: b"",
    "zeros": lambda: bytes(10_000),
}  # fmt: skip


@pytest.mark.parametrize("suffix", ["png", "eps"])
@pytest.mark.parametrize("name", PICTURES)
def test_pictures_to_start_from(name: str, suffix: str, guarded: Cli, stranger: Stranger, tmp_path: Path) -> None:
    (tmp_path / f"p.{suffix}").write_bytes(PICTURES[name]())
    check_answer(guarded("sample", "ckpt=run", "n=1", f"init=p.{suffix}", "out=o", "sampler.steps=2"), 0, 3)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_to_learn_from(name: str, guarded: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    for i in range(5):
        (folder / f"{i}.png").write_bytes(picture("PNG"))
    raw = PICTURES[name]()
    for suffix in ("png", "jpg", "tiff", "eps", "svg", "txt"):
        (folder / f"x.{suffix}").write_bytes(raw)
    result = guarded(
        "train", "dataset=image_folder", "dataset.root=d", "dataset.size=8", "run_dir=o", "trainer.steps=1",
        "model=unet_tiny", "logger=none", "trainer.sample_every=0", "trainer.eval_every=0", *TINY,
    )  # fmt: skip
    check_answer(result, 0, 3)
    assert not (tmp_path / "ran").exists()


def test_a_folder_of_links(guarded: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "d"
    (folder / "a/b").mkdir(parents=True)
    for i in range(5):
        (folder / f"a/{i}.png").write_bytes(picture("PNG"))
    (folder / "a/up").symlink_to("..")
    (folder / "a/b/loop").symlink_to("loop")
    (folder / "x.png").symlink_to("y.png")
    (folder / "y.png").symlink_to("x.png")
    (folder / "z.png").symlink_to("/dev/zero")
    (folder / "w.png").symlink_to("/etc/passwd")
    os.mkfifo(folder / "pipe.png")
    result = guarded(
        "train", "dataset=image_folder", "dataset.root=d", "dataset.size=8", "run_dir=o", "trainer.steps=1",
        "model=unet_tiny", "logger=none", "trainer.sample_every=0", "trainer.eval_every=0", *TINY,
    )  # fmt: skip
    check_answer(result, 0, 3)
    assert "root:" not in result.err.replace("dataset.root", "")


def idx(shape: tuple[int, ...], data: bytes, kind: int = 8) -> bytes:
    return bytes([0, 0, kind, len(shape)]) + b"".join(struct.pack(">I", n) for n in shape) + data


IDX: dict[str, Callable[[], bytes]] = {
    "promises more": lambda: gzip.compress(idx((60_000, 28, 28), b"x")),
    "promises terabytes": lambda: gzip.compress(idx((2**31, 2**31, 2**20), b"x")),
    "overflow": lambda: gzip.compress(idx((2**31, 2**31, 4), b"")),
    "wrap to nothing": lambda: gzip.compress(idx((2**22, 2**21, 2**21), b"")),
    "has 2 GB more": lambda: gzip.compress(idx((1, 28, 28), bytes(784))) + gzip.compress(bytes(2**22), 9) * 512,
    "of floats": lambda: gzip.compress(idx((1, 28, 28), bytes(784), 13)),
    "cut": lambda: gzip.compress(idx((10, 28, 28), bytes(7840)))[:-30],
    "no gzip": lambda: b"no gzip",
    "wrong sum": lambda: gzip.compress(idx((10, 28, 28), bytes(7840)))[:-8] + bytes(8),
    "other data after it": lambda: gzip.compress(idx((10, 28, 28), bytes(7840))) + b"x" * 100,
    "empty": lambda: b"",
    "of nothing": lambda: gzip.compress(idx((0, 28, 28), b"")),
    "of flat pictures": lambda: gzip.compress(idx((10, 0, 28), b"")),
}


@pytest.mark.parametrize("name", IDX)
def test_archives_of_mnist(name: str, guarded: Cli, tmp_path: Path) -> None:
    raw = tmp_path / "data/MNIST/raw"
    raw.mkdir(parents=True)
    for split in ("train", "t10k"):
        (raw / f"{split}-images-idx3-ubyte.gz").write_bytes(IDX[name]())
        (raw / f"{split}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx((10,), bytes(10))))
    check_answer(guarded("train", "dataset=mnist", "dataset.download=false", "run_dir=o", "trainer.steps=1"), 3)
    assert not (tmp_path / "o").exists()


def celeba(folder: Path, rows: str) -> Path:
    base = folder / "data/celeba"
    base.mkdir(parents=True)
    (base / "list_eval_partition.txt").write_text(rows)
    return base


CELEBA = [
    "dataset=celeba",
    "dataset.download=false",
    "dataset.size=8",
    "model=unet_tiny",
    "logger=none",
    "run_dir=o",
    *TINY,
]


@pytest.mark.parametrize(
    "name", ["../../../etc/passwd", "../evil.png", "/etc/passwd", "/dev/zero", "a/../../b.png", "..", "."]
)
def test_a_list_of_faces_that_names_other_files(name: str, guarded: Cli, tmp_path: Path) -> None:
    base = celeba(tmp_path, f"{name} 0\n" * 5)
    (base / "img_align_celeba").mkdir()
    (base / "evil.png").write_bytes(picture("PNG"))
    check_answer(guarded("train", "trainer.steps=1", *CELEBA), 3)
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    "name", ["../../escaped.txt", "/tmp/escaped-by-ddpm.txt", "img_align_celeba/../../../escaped.txt"]
)
def test_an_archive_of_faces_with_paths(name: str, guarded: Cli, tmp_path: Path) -> None:
    base = celeba(tmp_path, "000001.jpg 0\n")
    with zipfile.ZipFile(base / "img_align_celeba.zip", "w") as archive:
        archive.writestr(name, "out")
        archive.writestr("img_align_celeba/000001.jpg", picture("JPEG"))
        link = zipfile.ZipInfo("img_align_celeba/link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc")
        archive.writestr("img_align_celeba/link/escaped.txt", "x")
    check_answer(guarded("train", "trainer.steps=1", *CELEBA))
    assert not list(tmp_path.parent.glob("escaped*")) and not Path("/tmp/escaped-by-ddpm.txt").exists()
    assert not Path("/etc/escaped.txt").exists()
    assert {p.name for p in tmp_path.glob("escaped*")} == set()


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100", "svhn"])
def test_pickles_and_matlab_files_that_are_not_the_original(dataset: str, guarded: Cli, tmp_path: Path) -> None:
    """The originals are pickles: they are only opened if their MD5 is that of the published file."""
    from torchvision import datasets

    from .test_tensors import PICKLE

    kind = getattr(datasets, {"cifar10": "CIFAR10", "cifar100": "CIFAR100", "svhn": "SVHN"}[dataset])
    base = tmp_path / "data" / getattr(kind, "base_folder", "")
    base.mkdir(parents=True)
    names = [n for n, _ in (*kind.train_list, *kind.test_list)] + ["batches.meta", "meta"] if dataset != "svhn" else []
    for name in [*names, "train_32x32.mat", "test_32x32.mat"]:
        (base / name).write_bytes(PICKLE)
    check_answer(guarded("train", f"dataset={dataset}", "dataset.download=false", "run_dir=o", "trainer.steps=1"), 3)
    assert not (tmp_path / "ran").exists()


def test_a_cache_of_pictures_that_is_a_pickle(guarded: Cli, tmp_path: Path) -> None:
    from .test_tensors import BOMBS

    folder = tmp_path / "d"
    folder.mkdir()
    for i in range(5):
        Image.fromarray(np.full((20, 20), i, np.uint8)).save(folder / f"{i}.png")
    arguments = [
        "dataset=image_folder", "dataset.root=d", "dataset.size=8", "dataset.cache=disk", "trainer.steps=1",
        "model=unet_tiny", "logger=none", "trainer.sample_every=0", "trainer.eval_every=0", *TINY,
    ]  # fmt: skip
    check_answer(guarded("train", "run_dir=o", *arguments))
    for number, raw in enumerate(BOMBS.values()):
        for path in [*folder.rglob(".*/*"), *folder.rglob("*.npy"), *tmp_path.glob(".cache/**/*")]:
            if path.is_file():
                path.write_bytes(raw)
        check_answer(guarded("train", f"run_dir=o{number}", *arguments))
        assert not (tmp_path / "ran").exists()
