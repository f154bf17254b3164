"""The values of deep pictures: one rule for a set, stored with the run, used for other pictures, undone on request."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddpm_cli.data.image_folder import ImageFolder
from ddpm_cli.data.survey import Values
from ddpm_cli.sampling.inputs import picture_of, unlike

from ..conftest import Cli


def deep(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def ramp(low: float, high: float, dtype: type) -> np.ndarray:
    return np.linspace(low, high, 64).reshape(8, 8).astype(dtype)


def load(root: Path, **options: object) -> ImageFolder:
    return ImageFolder(root=str(root), size=8, channels=1, val_fraction=0.0, **options)  # type: ignore[arg-type]


def test_a_hair_above_one_changes_no_other_picture(tmp_path: Path) -> None:
    """One rule for the set: a picture with 1.004 is as bright as its neighbour with 1.0."""
    deep(tmp_path / "a.tiff", ramp(0, 1.004, np.float32))
    deep(tmp_path / "b.tiff", ramp(0, 1.0, np.float32))
    a, b = load(tmp_path).load("train").pixels[:, 0].numpy().astype(int)
    assert a.max() == 255 and abs(a - b).max() <= 1


@pytest.mark.parametrize("cache", [False, True])
def test_a_range_of_twelve_bits(cache: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for i in range(3):
        deep(tmp_path / f"d/{i}.tif", ramp(0, 4095, np.uint16))
    for _ in range(2):
        full = load(tmp_path / "d", cache=cache).load("train")
        assert full.pixels.max() == 16 and full.facts is not None and full.facts.ends == (0, 65535)
        assert any("dataset.range=[0,4095] stretches them" in line for line in full.facts.warnings)
        own = load(tmp_path / "d", cache=cache, range=(0.0, 4095.0)).load("train")
        assert own.pixels.max() == 255 and own.pixels.min() == 0


def test_signed_and_negative_values_are_not_clipped(tmp_path: Path) -> None:
    deep(tmp_path / "a.tif", ramp(-1000, 3000, np.int32))
    pixels = load(tmp_path).load("train").pixels
    assert pixels.min() == 0 and pixels.max() == 255 and len(pixels.unique()) > 50


def test_eight_bits_can_be_stretched_too(tmp_path: Path) -> None:
    deep(tmp_path / "a.png", ramp(0, 50, np.uint8))
    assert load(tmp_path, range=(0.0, 50.0)).load("train").pixels.max() == 255


@pytest.mark.parametrize("wrong", [(1.0, 1.0), (2.0, 1.0), (0.0, float("inf")), (float("nan"), 1.0)])
def test_an_empty_range(wrong: tuple[float, float], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^range: must be auto, full or \[black,white\]"):
        load(tmp_path, range=wrong)


def test_a_run_keeps_its_range(cli: Cli, tmp_path: Path) -> None:
    for i in range(8):
        deep(tmp_path / f"d/{i}.tif", ramp(100, 900 + i, np.float32))
    small = [
        "model=unet_tiny",
        "model.channels=8",
        "trainer=quick",
        "trainer.steps=2",
        "trainer.batch_size=4",
        "logger=none",
    ]
    arguments = [
        "dataset=image_folder",
        "dataset.root=d",
        "dataset.size=8",
        "dataset.channels=1",
        "trainer.sample_every=0",
    ]
    assert cli("train", "run_dir=r", *arguments, *small).code == 0
    about = json.loads((tmp_path / "r/checkpoints/step_00000002.json").read_text())["about"]
    assert about["range"] == [100.0, 907.0]
    for dtype in ("uint8", "uint16", "float32"):
        assert cli("sample", "ckpt=r", "n=3", "sampler.steps=2", f"dtype={dtype}", f"out={dtype}").code == 0
    byte, word, real = (
        np.load(tmp_path / d / "samples.npz")["arr_0"].astype(float) for d in ("uint8", "uint16", "float32")
    )
    assert real.min() >= 100 and real.max() <= 907 and abs(word - real).max() <= 0.51
    assert abs(byte - (real - 100) / 807 * 255).max() <= 0.51
    deep(tmp_path / "dim.tif", ramp(100, 500, np.float32))  # not stretched by its own smallest and largest value
    assert cli("sample", "ckpt=r", "init=dim.tif", "n=1", "strength=0.01", "out=v", "sampler.steps=50").code == 0
    assert np.asarray(Image.open(tmp_path / "v/input.png")).max() == round(400 / 807 * 255)
    deep(tmp_path / "unit.tif", ramp(0, 1, np.float32))
    found = cli("sample", "ckpt=r", "init=unit.tif", "n=1", "strength=0.01", "out=u", "sampler.steps=50")
    assert (
        "init: unit.tif has values from 0 to 1, which makes 100% of it black: the pictures of the run were scaled"
        in found.err
    )


@pytest.mark.parametrize(
    ("pixels", "values", "becomes"),
    [
        (ramp(0, 1, np.float32), Values((0.0, 65535.0)), "nearly all of it of one shade"),
        (ramp(0, 65535, np.uint16), Values((0.0, 1000.0)), "98% of it white"),
        (ramp(-9, -1, np.float32), Values((0.0, 1.0)), "100% of it black"),
        (ramp(0, 40, np.uint8), Values((100.0, 200.0), True), "100% of it black"),
        (ramp(-300, 355, np.float32), Values((0.0, 255.0)), "45% of it black and 16% of it white"),
        (ramp(-500, 500, np.float32), Values((-1.0, 1.0)), "50% of it black and 50% of it white"),
        (ramp(0, 40, np.uint8), Values((0.0, 255.0)), None),  # 8 bits mean the same in every picture
        (ramp(0, 65535, np.uint16), Values((0.0, 65535.0)), None),
        (ramp(0, 1, np.float32), Values((0.0, 1.0)), None),
        (ramp(0, 1, np.float32), Values(), None),
    ],
)
def test_a_picture_with_other_values_than_those_of_the_run_is_said(
    pixels: np.ndarray, values: Values, becomes: str | None
) -> None:
    lines = list(unlike(Image.fromarray(pixels), values))
    assert len(lines) == (becomes is not None) and all(f"makes {becomes}:" in line for line in lines)


@pytest.mark.parametrize("values", [Values(), Values((0.0, 255.0)), Values((-1.0, 1.0))])
def test_a_picture_without_numbers_is_said(values: Values) -> None:
    lines = list(unlike(Image.fromarray(np.full((8, 8), np.nan, np.float32)), values))
    assert lines == ["has 64 of 64 values that are no numbers (NaN or infinite); use another picture"]


def test_a_picture_of_16_bits_keeps_its_own_range_in_a_run_of_8_bits(tmp_path: Path) -> None:
    deep(tmp_path / "a.png", ramp(0, 65535, np.uint16))
    x = picture_of(str(tmp_path / "a.png"), (1, 8, 8), "init", Values((0.0, 255.0)))
    assert x.min() < -0.9 and x.max() > 0.9 and abs(float(x.mean())) < 0.1


def test_a_set_is_surveyed_once_for_all_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ddpm_cli.data import cache_key

    for i in range(20):
        deep(tmp_path / f"{i}.tif", ramp(0, 1000 + i, np.uint16))
    calls: list[int] = []
    original = cache_key.survey
    monkeypatch.setattr(cache_key, "survey", lambda files, progress: (calls.append(len(files)), original(files))[1])
    source = load(tmp_path)
    source.load("train"), source.load("val")
    assert calls == [20]
