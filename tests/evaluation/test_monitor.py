"""The Frechet distance while a model trains, and the best checkpoint by it."""

import json
from pathlib import Path

import pytest

from ..conftest import TINY, Cli

CLASSIFIER = ["model=unet_classifier", "objective.noisy=false", "run_dir=clf", "trainer.steps=2", "logger=none"]
RUN = ["run_dir=run", "trainer.features=clf", "trainer.best_by=fd", "trainer.eval_samples=8", "trainer.eval_every=2"]
QUIET = ["trainer.sample_every=0", "trainer.save_every=0", "trainer.log_every=0", "sampler.steps=2", "logger=none"]


def rows(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_it_is_logged_and_keeps_the_best(cli: Cli, tmp_path: Path) -> None:
    assert cli("train", *TINY, *CLASSIFIER).code == 0
    more = ["optimizer.lr=0.3", "trainer.keep_last=2"]  # so that the best is not the last
    result = cli("train", *TINY, *RUN, *QUIET, *more, "trainer.steps=12")
    assert result.code == 0, result.err
    found = {int(row["step"]): row["fd"] for row in rows(tmp_path / "run") if "fd" in row}
    assert list(found) == [2, 4, 6, 8, 10, 12] and len(set(found.values())) > 1
    best = min(found, key=lambda step: found[step])
    manifest = json.loads((tmp_path / "run/checkpoints/step_00000012.json").read_text())
    by = "fd of 8 samples seen by clf"
    assert manifest["best"] == {"step": best, "value": found[best], "by": by}
    assert (tmp_path / f"run/checkpoints/step_{best:08}.safetensors").is_file()


def test_it_does_not_change_training_and_is_the_same_after_resuming(cli: Cli, tmp_path: Path) -> None:
    assert cli("train", *TINY, *CLASSIFIER).code == 0
    assert cli("train", *TINY, *RUN, *QUIET, "trainer.steps=4").code == 0
    assert cli("train", *TINY, *QUIET, "trainer.steps=4", "trainer.eval_every=0", "run_dir=plain").code == 0
    name = "checkpoints/step_00000004.safetensors"
    assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()
    assert cli("train", *TINY, *RUN, *QUIET, "run_dir=parts", "trainer.steps=2").code == 0
    assert cli("train", *TINY, *RUN, *QUIET, "run_dir=parts", "trainer.steps=4").code == 0
    whole, parts = ([row["fd"] for row in rows(tmp_path / folder) if "fd" in row] for folder in ("run", "parts"))
    assert whole == parts


def test_it_also_measures_an_autoencoder(cli: Cli, tmp_path: Path) -> None:
    assert cli("train", *TINY, *CLASSIFIER).code == 0
    small = ["model=vae_conv", "model.channels=8", "model.multipliers=[1]", "model.latent=2", "model.prior=normal"]
    result = cli("train", *small, *[a for a in TINY if "model" not in a], *RUN, *QUIET, "trainer.steps=2")
    assert result.code == 0, result.err
    assert rows(tmp_path / "run")[-1]["fd"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trainer.best_by=fd"], "trainer.best_by: fd needs the features of a classifier"),
        (["trainer.features=clf", "dataset.val_fraction=0"], "trainer.features: needs held-out images"),
        (["trainer.features=clf", "dataset.size=16"], "trainer.features: the classifier takes images of 1x8x8"),
        (["trainer.features=clf", "model=unet_classifier"], "trainer.features: needs a model that draws samples"),
    ],
)
def test_impossible_settings_are_one_line(arguments: list[str], message: str, cli: Cli, tmp_path: Path) -> None:
    assert cli("train", *TINY, *CLASSIFIER).code == 0
    result = cli("train", *TINY, *QUIET, "run_dir=run", "trainer.steps=2", *arguments)
    assert (result.code, result.err.count("\n")) == (2, 1) and message in result.err, result.err
    assert not (tmp_path / "run").exists()


def test_the_best_checkpoint_by_another_metric_is_forgotten(cli: Cli, tmp_path: Path) -> None:
    """Its loss is far below any distance, so it would stay the best for ever."""
    assert cli("train", *TINY, *CLASSIFIER).code == 0
    first = ["run_dir=run", "trainer.steps=4", "trainer.eval_every=2", "trainer.best_by=val_loss"]
    assert cli("train", *TINY, *QUIET, *first).code == 0
    result = cli("train", *TINY, *RUN, *QUIET, "trainer.steps=8")
    assert result.code == 0 and "it was chosen by val_loss" in result.err + result.out
    found = {int(row["step"]): row["fd"] for row in rows(tmp_path / "run") if "fd" in row}
    best = min(found, key=lambda step: found[step])
    manifest = json.loads((tmp_path / "run/checkpoints/step_00000008.json").read_text())
    assert (manifest["best"]["step"], manifest["best"]["value"]) == (best, found[best])
