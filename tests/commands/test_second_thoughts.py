"""Circumstances that changed since the run was trained, and values that mean something else than they seem to."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ..conftest import Cli

S = [
    "dataset=image_folder", "dataset.root=d", "dataset.size=8", "trainer=quick", "trainer.batch_size=8", "logger=none",
    "trainer.sample_every=0", "run_dir=r",
]  # fmt: skip
TINY = ["model=unet_tiny", "model.channels=8"]


def mk(folder: Path, n: int, first: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(first, first + n):
        noise = np.random.default_rng(i).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{i:03}.png")


@pytest.fixture
def trained(cli: Cli, tmp_path: Path) -> Cli:
    """A run of two classes."""
    for name in ("apple", "pear"):
        mk(tmp_path / "d" / name, 20)
    assert cli("train", *S, *TINY, "trainer.steps=2").code == 0
    return cli


MEASURE = ["ckpt=r", "metrics=[bpd]", "bpd.steps=2", "bpd.ode_steps=0", "n=2", "out=e"]


def test_an_evaluation_refuses_classes_that_changed(trained: Cli, tmp_path: Path) -> None:
    mk(tmp_path / "d/fig", 5)
    more = trained("eval", *MEASURE)
    shutil.rmtree(tmp_path / "d/fig")
    (tmp_path / "d/apple").rename(tmp_path / "d/zapple")
    renamed = trained("eval", *MEASURE)
    assert more.code == renamed.code == 3
    assert "[apple, fig, pear], but the run was trained with [apple, pear]" in more.err
    assert "[pear, zapple], but the run was trained with [apple, pear]" in renamed.err


def test_an_evaluation_says_that_pictures_changed(trained: Cli, tmp_path: Path) -> None:
    assert "have changed" not in trained("eval", *MEASURE).err
    mk(tmp_path / "d/pear", 5, first=20)
    assert "have changed since the run was trained: 45 now, 40 before" in trained("eval", *MEASURE).err


def test_a_classifier_goes_on_with_its_own_statistics(cli: Cli, tmp_path: Path) -> None:
    for name in ("a", "b"):
        mk(tmp_path / "d" / name, 20)
    small = ["model=resnet", "model.channels=8"]
    assert cli("train", *S, *small, "trainer.steps=2").code == 0
    mk(tmp_path / "d/a", 3, first=20)
    result = cli("train", *S, *small, "trainer.steps=4")
    assert result.code == 0 and "the pictures have changed" in result.err, result.err
    first, last = (
        json.loads((tmp_path / f"r/checkpoints/step_{n:08d}.json").read_text())["config"]["model"] for n in (2, 4)
    )
    assert first["mean"] == last["mean"] and first["std"] == last["std"]


@pytest.mark.parametrize("key", ["range=[0,200]", "val_fraction=0.5"])
def test_the_best_is_chosen_again_if_the_dataset_is_made_otherwise(key: str, trained: Cli, tmp_path: Path) -> None:
    best = ["trainer.best_by=val_loss", "trainer.eval_every=2"]
    assert trained("train", *S, *TINY, *best, "trainer.steps=4").code == 0
    result = trained("train", *S, *TINY, *best, f"dataset.{key}", "trainer.steps=6")
    name = key.partition("=")[0]
    assert result.code == 0 and f"dataset.{name} has changed since step 4" in result.err, result.err
    manifest = json.loads((tmp_path / "r/checkpoints/step_00000006.json").read_text())
    assert manifest["best"]["step"] == 6


@pytest.mark.parametrize("root", ["~nobodyx/p", "~x/y"])
def test_an_unknown_home_is_a_folder_name(root: str, cli: Cli, tmp_path: Path) -> None:
    result = cli("train", *S, *TINY, "trainer.steps=1", f"dataset.root={root}")
    assert result.code == 3 and f"{root}: does not exist" in result.err, result.err
    mk(tmp_path / root, 4)
    assert cli("train", *S, *TINY, "trainer.steps=1", f"dataset.root={root}").code == 0


@pytest.mark.parametrize(
    ("dataset", "file"), [("celeba", "celeba/img_align_celeba.zip"), ("cifar10", "cifar-10-python.tar.gz")]
)
def test_a_page_in_the_place_of_an_archive_is_named(dataset: str, file: str, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "data" / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "data" / file).write_text("<html>")
    result = cli("train", f"dataset={dataset}", "dataset.download=false", "trainer.steps=1")
    assert result.code == 3 and f"{file}: is damaged or another file; remove it, then put" in result.err, result.err


@pytest.mark.parametrize("group", ["weighting", "model", "dataset"])
def test_a_group_cannot_be_null(group: str, cli: Cli) -> None:
    result = cli("train", f"{group}=null")
    assert result.code == 2 and f"{group}: cannot be null; choose one of " in result.err, result.err
    assert cli("sample", "sampler=null").code == 2


def test_no_loggers_at_all(cli: Cli, tmp_path: Path) -> None:
    mk(tmp_path / "d", 4)
    plain = [a for a in S if not a.startswith("logger")]
    assert cli("train", *plain, *TINY, "trainer.steps=1", "logger=[]").code == 0
    assert not (tmp_path / "r/tensorboard").exists()


def test_what_is_not_as_it_seems_is_said(trained: Cli, tmp_path: Path) -> None:
    draw = ["ckpt=r", "n=2", "out=o", "sampler.steps=2"]
    one = trained("sample", *draw, "label=#1")
    assert "class: pear" in one.out
    assert "draws without regard to the class" in trained("sample", *draw, "guidance=cfg", "guidance.scale=0").err
    late = trained("sample", "ckpt=r", "n=1", "out=o", "sampler.spacing=leading", "sampler.steps=501", "dataset=x")
    assert late.code == 2  # no such key
    stored = trained("eval", "samples=o", "ckpt=r", "metrics=[memorisation]", "out=e")
    assert "the files in images/ are not used" in stored.err, stored.err
    refused = trained("eval", *MEASURE, "dataset.val_fraction=0.2")
    assert refused.code == 2 and "which takes the dataset of the run; set root=FOLDER if it moved" in refused.err
    listed = trained("sample", *draw, "label=[apple,pear]")
    assert listed.code == 2 and "set labels=[apple,pear]" in listed.err


def test_a_run_without_an_average_says_so(cli: Cli, tmp_path: Path) -> None:
    mk(tmp_path / "d", 4)
    assert cli("train", *S, *TINY, "trainer.steps=1", "trainer.ema.decay=0").code == 0
    result = cli("sample", "ckpt=r", "n=1", "out=o", "sampler.steps=2")
    assert "the run has no average of its weights" in result.err
    assert cli("sample", "ckpt=r", "n=1", "out=o", "label=a").err.count("have no classes; leave it out") == 1


def test_one_picture(cli: Cli, tmp_path: Path) -> None:
    mk(tmp_path / "d", 1)
    assert "1 image of 8x8x3" in cli("train", *S, *TINY, "trainer.steps=1").err
    result = cli("train", *S, *TINY, "trainer.steps=2", "trainer.best_by=val_loss", "trainer.eval_every=1")
    assert result.code == 2 and "add pictures, this is a single one" in result.err


def test_animations_of_ours_are_not_pictures_to_learn(trained: Cli, tmp_path: Path) -> None:
    assert trained("gif", "ckpt=r", "n=2", "frames=3", "out=d/anim.gif", "sampler.steps=2").code == 0
    result = trained("train", *S, *TINY, "trainer.steps=3")
    assert "40 pictures" in result.err and "left out 1 picture that this program wrote" in result.err, result.err


def test_a_late_start_of_the_sampler_is_said(cli: Cli, tmp_path: Path) -> None:
    mk(tmp_path / "d", 4)
    assert cli("train", *S, *TINY, "trainer.steps=1", "schedule=linear").code == 0
    result = cli("gif", "ckpt=r", "n=1", "frames=2", "out=x.gif", "sampler.spacing=leading", "sampler.steps=501")
    assert "sampler.spacing=leading with 501 steps starts at t = 0.50" in result.err, result.err


@pytest.mark.parametrize(
    ("model", "unused"),
    [
        ("resnet", {"schedule", "times", "weighting", "sampler", "guidance"}),
        ("unet_classifier", {"weighting", "sampler", "guidance"}),
        ("vae_conv", {"schedule", "times", "weighting", "sampler", "guidance"}),
        ("gmm", {"schedule", "times", "weighting", "sampler", "guidance", "optimizer"}),
        ("unet_tiny", set()),
    ],
)
def test_groups_that_a_model_has_no_use_for_are_not_shown(model: str, unused: set[str], cli: Cli) -> None:
    groups = {"schedule", "times", "weighting", "sampler", "guidance", "optimizer"}
    small = ["model.channels=4", "model.latent=2", "model.prior_components=1"] if model == "vae_conv" else []
    few = ["trainer.steps=1", "trainer.batch_size=4", "trainer.eval_images=4", "trainer.samples=2", "logger=none"]
    result = cli("train", f"model={model}", "run_dir=run", *few, *small)
    assert result.code == 0, result.err
    assert {group for group in groups if f"── {group}" in result.out} == groups - unused


def test_an_animation_of_added_noise_shows_no_sampler(cli: Cli) -> None:
    assert cli("train", "run_dir=run", "trainer.steps=1", "trainer.sample_every=0", *TINY).code == 0
    assert "sampler" in cli("gif", "ckpt=run", "n=2", "frames=2", "out=a.gif").out
    assert "sampler" not in cli("gif", "ckpt=run", "n=2", "frames=2", "kind=forward", "out=b.gif").out
