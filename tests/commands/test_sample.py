"""ddpm sample and ddpm gif of a run on digits."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ..conftest import TINY, Cli

QUIET = ["trainer.sample_every=0", "trainer.eval_every=0", "logger=none", "trainer.steps=3"]
QUICK = ["sampler.steps=4"]


@pytest.fixture
def run(cli: Cli) -> str:
    assert cli("train", "run_dir=run", *TINY, *QUIET, "optimizer.lr=0.02").code == 0
    return "ckpt=run"


def images(folder: Path) -> np.ndarray:
    return np.load(folder / "samples.npz")["arr_0"]


def test_the_files_of_a_sample(run: str, cli: Cli, tmp_path: Path) -> None:
    result = cli("sample", run, "n=5", "out=s", "seed=3", *QUICK)
    assert result.code == 0, result.err
    out = tmp_path / "s"
    assert sorted(p.name for p in out.iterdir()) == ["grid.png", "images", "sample.json", "samples.npz"]
    assert sorted(p.name for p in (out / "images").iterdir()) == [f"{i:06d}.png" for i in range(5)]
    array = images(out)
    assert array.shape == (5, 8, 8, 1) and array.dtype == np.uint8
    assert np.array_equal(np.asarray(Image.open(out / "images/000004.png")), array[4, :, :, 0])
    facts = json.loads((out / "sample.json").read_text())
    manifest = json.loads((tmp_path / "run/checkpoints/step_00000003.json").read_text())
    assert facts["checkpoint_sha256"] == manifest["sha256"]
    assert (facts["seeds"], facts["network_calls"], facts["steps"]) == ([3, 4, 5, 6, 7], 4, 4)
    assert {"sampler", "precision", "seconds", "images_per_second"} <= facts.keys()


def test_an_image_has_its_own_seed(run: str, cli: Cli, tmp_path: Path) -> None:
    for name, arguments in {"a": ["n=6"], "b": ["n=6", "batch_size=4"], "c": ["n=1", "seed=4"]}.items():
        assert cli("sample", run, f"out={name}", "precision=fp32", "label=3", *arguments, *QUICK).code == 0
    a, b, c = (images(tmp_path / name).astype(int) for name in "abc")
    assert np.abs(a - b).max() <= 1 and np.abs(a[4:5] - c).max() <= 1
    assert np.abs(a[0] - a[1]).max() > 1


def test_weights_raw_and_ema_differ(run: str, cli: Cli, tmp_path: Path) -> None:
    for weights in ("ema", "raw"):
        assert cli("sample", run, f"out={weights}", f"weights={weights}", "n=2", "sampler.clip=false", *QUICK).code == 0
    assert not np.array_equal(images(tmp_path / "ema"), images(tmp_path / "raw"))


def test_latest_is_the_default_and_other_files_are_never_replaced(run: str, cli: Cli, tmp_path: Path) -> None:
    assert cli("sample", "n=3", "out=s", *QUICK).code == 0
    assert cli("sample", "n=2", "out=s", *QUICK).code == 0  # new samples replace old ones
    assert len(list((tmp_path / "s/images").iterdir())) == 2
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("x")
    refused = cli("sample", "n=2", "out=mine", *QUICK)
    assert refused.code == 2 and "has other files" in refused.err
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_classes(cli: Cli, tmp_path: Path) -> None:
    assert cli("train", "run_dir=run", *TINY, *QUIET).code == 0
    expected = {"label=7": [7] * 4, "labels=[1,2]": [1, 2, 1, 2], "n=4": [0, 1, 2, 3]}
    for i, (argument, labels) in enumerate(expected.items()):
        result = cli("sample", "ckpt=run", "n=4", argument, f"out=s{i}", *QUICK)
        assert result.code == 0, result.err
        assert np.load(tmp_path / f"s{i}/samples.npz")["arr_1"].tolist() == labels
    refused = cli("sample", "ckpt=run", "n=4", "label=11", *QUICK)
    assert refused.code == 2 and "there is no class 11" in refused.err


def test_an_unconditional_model_refuses_a_label(cli: Cli) -> None:
    assert cli("train", "run_dir=plain", "model.class_conditional=false", *TINY, *QUIET).code == 0
    refused = cli("sample", "ckpt=plain", "label=1")
    assert refused.code == 2 and refused.err.startswith("ddpm: error: label: this model is not class-conditional")


def test_colour_images_of_another_shape(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(6):
        Image.new("RGB", (20, 30), (40 * i, 255 - 40 * i, 128)).save(folder / f"{i}.png")
    data = ["dataset=image_folder", "dataset.root=pictures", "dataset.size=[8,16]", "model=unet_tiny"]
    assert cli("train", "run_dir=run", *data, *TINY, *QUIET).code == 0
    assert cli("sample", "ckpt=run", "n=2", "out=s", *QUICK).code == 0
    assert images(tmp_path / "s").shape == (2, 8, 16, 3)
    for kind in ("denoise", "forward"):
        assert cli("gif", "ckpt=run", f"kind={kind}", "n=2", "out=g", *QUICK).code == 0
        assert Image.open(tmp_path / f"g/{kind}.gif").n_frames > 1


@pytest.mark.parametrize("kind", ["denoise", "forward"])
def test_gif(kind: str, run: str, cli: Cli, tmp_path: Path) -> None:
    result = cli("gif", run, f"kind={kind}", "n=4", "frames=6", "out=clips/mine.gif", "sampler.steps=10")
    assert result.code == 0, result.err
    animation = Image.open(tmp_path / "clips/mine.gif")
    assert 2 < animation.n_frames <= 6
    assert sorted(p.name for p in (tmp_path / "clips").iterdir()) == (
        ["mine.gif"] if kind == "denoise" else ["mine.gif", "mine.png"]
    )


def test_mp4(run: str, cli: Cli, tmp_path: Path) -> None:
    assert cli("gif", run, "n=2", "format=mp4", "out=g", "frames=5", *QUICK).code == 0
    assert (tmp_path / "g/denoise.mp4").stat().st_size > 500


def test_damage_is_detected_before_anything_is_written(run: str, cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "run/checkpoints/step_00000003.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    for command in ("sample", "gif"):
        result = cli(command, run, "out=s")
        assert result.code == 4 and "is damaged" in result.err and result.err.count("\n") == 1
    assert not (tmp_path / "s").exists()
