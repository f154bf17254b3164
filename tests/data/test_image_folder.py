"""Any folder of pictures: which files are found, how they are decoded, what happens with damaged ones."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm_cli.data.image_folder import ImageFolder
from ddpm_cli.data.images import Images
from ddpm_cli.errors import DataError


def save(path: Path, color: Any = (10, 20, 30), size: tuple[int, int] = (8, 8), mode: str = "RGB", **kw: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path, **kw)
    return path


def load(root: Path, split: Any = "train", **fields: Any) -> Images:
    return ImageFolder(**{"root": str(root), "size": 8, "val_fraction": 0.0, **fields}).load(split)


def test_class_folders_give_the_labels(tmp_path: Path) -> None:
    for name, color in (("cat", (200, 0, 0)), ("ant", (0, 200, 0)), ("bee", (0, 0, 200))):
        save(tmp_path / name / "x.png", color)
        save(tmp_path / name / "deeper" / "y.png", color)
    (tmp_path / "empty").mkdir()
    images = load(tmp_path, classes=3)
    assert images.class_names == ("ant", "bee", "cat")
    assert images.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert images.pixels[:, :, 0, 0].argmax(1).tolist() == [1, 1, 2, 2, 0, 0]
    assert load(tmp_path, classes=0).classes == 0


def test_no_classes_with_a_single_folder_or_with_pictures_beside_the_folders(tmp_path: Path) -> None:
    save(tmp_path / "all" / "a" / "x.png")
    save(tmp_path / "all" / "b" / "x.png")
    assert load(tmp_path).classes == 0
    save(tmp_path / "other" / "x.png")
    assert load(tmp_path).classes == 2
    save(tmp_path / "top.png")
    images = load(tmp_path)
    assert images.classes == 2 and len(images) == 3  # one stray picture does not make the classes vanish
    for i in range(3):
        save(tmp_path / f"top{i}.png")
    images = load(tmp_path)
    assert images.classes == 0 and images.labels.tolist() == [0] * 7


def test_another_number_of_class_folders_is_an_error(tmp_path: Path) -> None:
    save(tmp_path / "a" / "x.png")
    save(tmp_path / "b" / "x.png")
    with pytest.raises(DataError, match=r"has 2 class folders, not 5; set dataset\.classes=null"):
        load(tmp_path, classes=5)


@pytest.mark.parametrize("suffix", ["png", "jpg", "jpeg", "bmp", "webp", "gif", "tif", "tiff", "ppm", "JPG"])
def test_formats(tmp_path: Path, suffix: str) -> None:
    save(tmp_path / f"x.{suffix}", (120, 120, 120))
    images = load(tmp_path)
    assert images.shape == (3, 8, 8)
    assert (images.pixels.int() - 120).abs().max() <= 3


def test_only_the_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("L", (8, 8), value) for value in (250, 5)]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    assert load(tmp_path).pixels.unique().tolist() == [250]


def test_other_files_and_hidden_names_are_ignored(tmp_path: Path) -> None:
    save(tmp_path / "x.png")
    save(tmp_path / ".hidden.png")
    save(tmp_path / ".git" / "x.png")
    save(tmp_path / "__MACOSX" / "x.png")
    for name in ("Thumbs.db", "notes.txt", ".DS_Store", "._x.jpg"):
        (tmp_path / name).write_bytes(b"?")
    (tmp_path / "folder.png").mkdir()
    assert len(load(tmp_path)) == 1


def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    root = tmp_path / "root"
    save(root / "b" / "x.png", (1, 1, 1))
    save(tmp_path / "elsewhere" / "y.png", (2, 2, 2))
    (root / "c").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (root / "a").symlink_to(root / "b", target_is_directory=True)  # a second path to b
    (root / "b" / "up").symlink_to(root, target_is_directory=True)
    (root / "broken.png").symlink_to(tmp_path / "gone.png")
    images = load(root)
    assert images.class_names == ("b", "c")
    assert images.pixels[:, 0, 0, 0].tolist() == [1, 2]


def test_exif_turns_the_picture_upright(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:, :4] = 255  # left half white
    exif = Image.Exif()
    exif[0x0112] = 6  # turn 90 degrees clockwise to see it upright: left becomes top
    Image.fromarray(pixels).save(tmp_path / "x.png", exif=exif)
    upright = load(tmp_path, channels=1).pixels[0, 0]
    assert (upright[:4] == 255).all() and (upright[4:] == 0).all()


def test_broken_exif_is_ignored(tmp_path: Path) -> None:
    save(tmp_path / "x.jpg", exif=b"Exif\x00\x00MM\x00*garbage")
    assert len(load(tmp_path)) == 1


@pytest.mark.parametrize(
    ("mode", "color", "expected"),
    [
        ("RGBA", (255, 0, 0, 0), (255, 255, 255)),
        ("RGBA", (255, 0, 0, 255), (255, 0, 0)),
        ("RGBA", (0, 0, 0, 128), (127, 127, 127)),
        ("LA", (0, 0), (255, 255, 255)),
        ("L", 77, (77, 77, 77)),
        ("1", 1, (255, 255, 255)),
        ("I;16", 65535, (255, 255, 255)),
        ("I;16", 257 * 3, (3, 3, 3)),
        ("I;16", 40000, (156, 156, 156)),
    ],
)
def test_modes_become_rgb(tmp_path: Path, mode: str, color: Any, expected: tuple[int, int, int]) -> None:
    save(tmp_path / "x.png", color, mode=mode)
    assert load(tmp_path).pixels[0, :, 4, 4].tolist() == list(expected)


def test_palettes_with_and_without_a_transparent_colour(tmp_path: Path) -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    image.save(tmp_path / "a.png")
    image.save(tmp_path / "b.png", transparency=1)
    assert load(tmp_path).pixels[:, :, 0, 0].tolist() == [[10, 200, 30], [255, 255, 255]]


def test_float_and_cmyk(tmp_path: Path) -> None:
    save(tmp_path / "a.tiff", 0.5, mode="F")
    save(tmp_path / "b.tiff", 200.0, mode="F")
    save(tmp_path / "c.tiff", (0, 0, 0, 255), mode="CMYK")
    # the smallest and the largest value of all floats are black and white
    assert load(tmp_path, channels=1).pixels[:, 0, 0, 0].tolist() == [0, 255, 0]
    assert load(tmp_path, channels=1, range=(0.0, 200.0)).pixels[:, 0, 0, 0].tolist() == [1, 255, 0]


def test_colour_to_grey(tmp_path: Path) -> None:
    save(tmp_path / "x.png", (255, 0, 0))
    images = load(tmp_path, channels=1)
    assert images.shape == (1, 8, 8) and images.pixels.unique().tolist() == [76]


def test_centre_crop_keeps_the_aspect_and_none_stretches(tmp_path: Path) -> None:
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 10:20] = 255  # the middle square is white
    Image.fromarray(pixels).save(tmp_path / "x.png")
    assert (load(tmp_path, size=10).pixels == 255).all()
    stretched = load(tmp_path, size=10, crop="none").pixels[0, 0, 5]
    assert stretched[0] < 20 and stretched[5] > 235 and stretched[9] < 20


def test_height_and_width(tmp_path: Path) -> None:
    save(tmp_path / "x.png", size=(40, 20))
    assert load(tmp_path, size=(6, 9)).shape == (3, 6, 9)


def test_a_large_jpeg_is_close_to_the_exact_reduction(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 512).astype(np.uint8)
    image = Image.fromarray(np.broadcast_to(ramp, (512, 512)).copy())
    image.save(tmp_path / "x.jpg", quality=95)
    exact = np.asarray(image.resize((16, 16), Image.Resampling.LANCZOS)).astype(int)
    ours = load(tmp_path, size=16, channels=1).pixels[0, 0].numpy().astype(int)
    assert np.abs(ours - exact).max() <= 2


def test_a_text_file_named_png_is_damaged(tmp_path: Path) -> None:
    save(tmp_path / "good.png")
    bad = tmp_path / "bad.png"
    bad.write_text("not a picture")
    message = f"{bad}: is not a readable picture (unknown format); remove it or set dataset.skip_damaged=true"
    with pytest.raises(DataError) as caught:
        load(tmp_path)
    assert str(caught.value) == message


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "webp", "tif"])
def test_truncated_pictures_are_damaged(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / f"x.{suffix}")
    data = (tmp_path / f"x.{suffix}").read_bytes()
    (tmp_path / f"x.{suffix}").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=rf"x\.{suffix}: is not a readable picture \(.+\); remove it"):
        load(tmp_path)


def test_an_empty_file_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "x.png").touch()
    with pytest.raises(DataError, match=r"x\.png: is not a readable picture"):
        load(tmp_path)


def test_skipping_damaged_files_keeps_the_rest_and_their_labels(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in (("a", 1), ("b", 2)):
        for i in range(40):
            save(tmp_path / name / f"{i}.png", (value, value, value))
        (tmp_path / name / "5.png").write_text("bad")
    images = load(tmp_path, skip_damaged=True)
    assert len(images) == 78
    assert torch.equal(images.pixels[:, 0, 0, 0].long(), images.labels + 1)
    assert "left out 2 of 80 pictures" in caplog.text


def test_only_damaged_files(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_text("bad")
    with pytest.raises(DataError, match="has no readable pictures"):
        load(tmp_path, skip_damaged=True)


def test_a_decompression_bomb_is_refused_and_a_large_picture_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "x.png", size=(30, 30))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 600)  # Pillow warns for 900, between one and two times the limit
    assert len(load(tmp_path)) == 1
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
    with pytest.raises(DataError, match=r"is not a readable picture .*decompression bomb"):
        load(tmp_path)


def test_folders_without_pictures(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no pictures \(\.png \.jpg .*\); put some there or set dataset\.root"):
        load(tmp_path)
    with pytest.raises(DataError, match=r"gone: does not exist; set dataset\.root=FOLDER"):
        load(tmp_path / "gone")
    file = save(tmp_path / "x.png")
    with pytest.raises(DataError, match="is not a folder"):
        load(file)
    with pytest.raises(DataError, match=r"^dataset\.root: is not set; set dataset\.root=FOLDER$"):
        ImageFolder().load("train")


def test_splits_are_disjoint_complete_and_repeatable(tmp_path: Path) -> None:
    for i in range(40):
        save(tmp_path / f"{i:02}.png", (i, i, i))
    values = {split: load(tmp_path, split, val_fraction=0.05).pixels[:, 0, 0, 0].tolist() for split in ("train", "val")}
    assert len(values["val"]) == 2
    assert sorted(itertools.chain(*values.values())) == list(range(40))
    assert load(tmp_path, "val", val_fraction=0.05).pixels[:, 0, 0, 0].tolist() == values["val"]


def test_a_single_picture_is_for_training(tmp_path: Path) -> None:
    save(tmp_path / "x.png")
    assert len(load(tmp_path, "train", val_fraction=0.05)) == 1
    val = load(tmp_path, "val", val_fraction=0.05)
    assert len(val) == 0 and val.shape == (3, 8, 8)


def test_only_training_pictures_are_flipped(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    save(tmp_path / "b.png")
    assert load(tmp_path, "train", val_fraction=0.5).flip
    assert not load(tmp_path, "val", val_fraction=0.5).flip


def test_progress_rises_to_the_total(tmp_path: Path) -> None:
    for i in range(70):
        save(tmp_path / f"{i}.png", size=(2, 2))
    calls: list[tuple[str, int, int]] = []
    ImageFolder(root=str(tmp_path), size=2, val_fraction=0.0).load("train", lambda *call: calls.append(call))
    assert {(what, total) for what, _, total in calls} == {("decoding", 70)}
    assert [done for _, done, _ in calls] == [32, 64, 70]


def test_field_checks() -> None:
    with pytest.raises(ValueError, match=r"^crop: must be center or none, got 'left'"):
        ImageFolder(crop="left")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^val_fraction: "):
        ImageFolder(val_fraction=None)  # type: ignore[arg-type]
