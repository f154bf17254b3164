"""Training an image classifier: accuracy, resuming, evaluation of the best checkpoint, use as guidance."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ddpm_cli.data.digits import Digits
from ddpm_cli.models.resnet import ResNet

from ..conftest import TINY, Cli
from ..data.test_torchvision_sets import write_mnist

SMALL = ["model=resnet", "model.channels=8", "model.multipliers=[1,2]", "model.blocks=1"]
OFTEN = ["trainer.eval_every=5", "trainer.save_every=5", "trainer.eval_images=null"]
BEST = ["trainer.best_by=val_accuracy", *OFTEN]


def rows(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def best_rows(run: Path) -> list[dict[str, Any]]:
    return [row for row in rows(run) if "best_step" in row]


def accuracy(run: Path, step: int, kind: str) -> float:
    """The accuracy of a checkpoint on the held-out digits, computed independently of the program's validation."""
    manifest = json.loads((run / f"checkpoints/step_{step:08d}.json").read_text())
    node = {k: v for k, v in manifest["config"]["model"].items() if k != "_target_"}
    model = ResNet(**node).eval()
    tensors = load_file(run / f"checkpoints/step_{step:08d}.safetensors")
    model.load_state_dict({k.removeprefix(f"{kind}."): v for k, v in tensors.items() if k.startswith(f"{kind}.")})
    val = Digits().load("val")
    with torch.no_grad():
        correct = model(val.pixels.float() / 127.5 - 1).argmax(1) == val.labels
    return float(correct.float().mean())


def test_it_learns_digits_and_the_best_checkpoint_is_evaluated(cli: Cli, tmp_path: Path) -> None:
    often = ["trainer.eval_every=40", "trainer.best_by=val_accuracy", "trainer.eval_images=50"]
    arguments = ["run_dir=run", "trainer.steps=160", *SMALL, *often, "logger=none"]
    result = cli("train", *arguments)
    assert result.code == 0, result.err
    run = tmp_path / "run"
    curve = {row["step"]: row["val_accuracy"] for row in rows(run) if "val_accuracy" in row and "best_step" not in row}
    assert list(curve) == [40, 80, 120, 160] and curve[160] > 0.85
    best = max(curve, key=lambda step: (curve[step], -step))
    (row,) = best_rows(run)
    assert rows(run)[-1] == row and (row["step"], row["best_step"]) == (160, best)
    assert row["val_accuracy"] == pytest.approx(accuracy(run, best, "ema"))  # on all 180, with averaged weights
    assert "test_accuracy" not in row and f"val accuracy {row['val_accuracy']:.4f} (n=180)" in result.out
    again = cli("train", *arguments)
    assert "already finished" in again.out and best_rows(run) == [row]


def test_an_interrupted_evaluation_of_the_best_checkpoint_is_repeated(cli: Cli, tmp_path: Path) -> None:
    arguments = ["run_dir=run", "trainer.steps=10", *SMALL, *BEST, "logger=none", "trainer.ema.decay=0"]
    assert cli("train", *arguments).code == 0
    run = tmp_path / "run"
    kept = [line for line in (run / "metrics.jsonl").read_text().splitlines(True) if "best_step" not in line]
    (row,) = best_rows(run)
    (run / "metrics.jsonl").write_text("".join(kept))
    weights = (run / "checkpoints/step_00000010.safetensors").read_bytes()
    assert cli("train", *arguments).code == 0
    assert best_rows(run) == [row] and (run / "checkpoints/step_00000010.safetensors").read_bytes() == weights
    assert row["val_accuracy"] == pytest.approx(accuracy(run, row["best_step"], "model"))
    assert cli("train", *arguments, "trainer.steps=15").code == 0  # a longer run is evaluated again
    assert [row["step"] for row in best_rows(run)] == [10, 15]


@pytest.mark.parametrize(
    "more",
    [[], ["optimizer=adamw_small", "trainer.ema.decay=0", "objective.crop_scale=[0.6,1]", "dataset.flip=true",
          "trainer.lr_decay=steps", "trainer.lr_milestones=[0.01]"]],
)  # fmt: skip
@pytest.mark.parametrize("model", ["resnet", "densenet"])
def test_ten_steps_equal_five_steps_and_five_resumed_steps(
    model: str, more: list[str], cli: Cli, tmp_path: Path
) -> None:
    """With batch normalisation, momentum and crops; the best checkpoint is evaluated once at the end of a session."""
    size = ["model.channels=8", "model.blocks=1" if model == "resnet" else "model.blocks=[1,2]"]
    common = [f"model={model}", *size, *BEST, "trainer.batch_size=16", *more]
    assert cli("train", "run_dir=whole", "trainer.steps=10", *common).code == 0
    for steps in (5, 10):
        result = cli("train", "run_dir=parts", f"trainer.steps={steps}", *common)
        assert result.code == 0 and "changed settings" not in result.err, result.err
    name = "checkpoints/step_00000010.safetensors"
    assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()
    assert [row["step"] for row in best_rows(tmp_path / "whole")] == [10]
    assert [row["step"] for row in best_rows(tmp_path / "parts")] == [5, 10]


def test_validation_and_the_graph_do_not_change_training(cli: Cli, tmp_path: Path) -> None:
    common = [*SMALL, "trainer.steps=6", "trainer.batch_size=16", "trainer.sample_every=0"]
    without = ["logger=none", "trainer.eval_every=0"]
    validated = ["logger=tensorboard", "trainer.eval_every=1", "trainer.best_by=val_loss"]
    assert cli("train", "run_dir=without", *common, *without).code == 0
    assert cli("train", "run_dir=validated", *common, *validated).code == 0
    name = "checkpoints/step_00000006.safetensors"
    assert (tmp_path / "without" / name).read_bytes() == (tmp_path / "validated" / name).read_bytes()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "validated/tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert tags["graph"] and {"lr", "loss", "accuracy", "val_accuracy"} <= set(tags["scalars"])


def test_input_statistics_are_those_of_the_training_images(cli: Cli, tmp_path: Path) -> None:
    assert cli("train", "run_dir=run", "trainer.steps=1", *SMALL, "dataset.channels=3", "logger=none").code == 0
    x = Digits().load("train").pixels.double() / 127.5 - 1
    model = json.loads((tmp_path / "run/config.json").read_text())["model"]
    assert model["mean"] == pytest.approx([float(x.mean())] * 3) and model["std"] == pytest.approx(
        [float(x.std(correction=0))] * 3
    )
    tensors = load_file(tmp_path / "run/checkpoints/step_00000001.safetensors")
    assert tensors["model.mean"].flatten().tolist() == pytest.approx(model["mean"])
    given = ["model.mean=[0.5,0,0]", "model.std=[2,1,1]", "dataset.channels=3", "logger=none"]
    assert cli("train", "run_dir=own", "trainer.steps=1", *SMALL, *given).code == 0
    assert json.loads((tmp_path / "own/config.json").read_text())["model"]["mean"] == [0.5, 0, 0]


@pytest.mark.parametrize(("fraction", "test"), [("0.2", True), ("null", False)])
def test_test_accuracy_is_reported_unless_test_images_chose_the_checkpoint(
    fraction: str, test: bool, cli: Cli, tmp_path: Path
) -> None:
    write_mnist(tmp_path)
    data = ["dataset=mnist", "dataset.root=.", "dataset.download=false", f"dataset.val_fraction={fraction}"]
    result = cli("train", "run_dir=run", "trainer.steps=2", "trainer.batch_size=4", *SMALL, *data, *BEST)
    assert result.code == 0, result.err
    (row,) = best_rows(tmp_path / "run")
    assert ("test_accuracy" in row) == test == ("test accuracy" in result.out)
    if test:
        assert round(row["test_accuracy"] * 6, 3) in range(7) and "n=6" in result.out
    else:
        assert "the test images also chose the checkpoint" in " ".join(result.out.split())


def test_it_guides_a_generator_by_the_estimates_of_x0(cli: Cli, tmp_path: Path) -> None:
    """A classifier of clean images gets the estimate of x0; using it on x_t is an error."""
    assert cli("train", "run_dir=net", "model.class_conditional=false", "trainer.steps=1", *TINY).code == 0
    assert cli("train", "run_dir=clf", *SMALL, "trainer.steps=30", "logger=none").code == 0
    guide = ["guidance=classifier", "guidance.classifier=clf", "labels=[3,8]"]
    drawn = {}
    for name, more in {"plain": [], "auto": guide, "clean": [*guide, "guidance.reads=clean"]}.items():
        scale = ["guidance.scale=50"] if more else []
        result = cli("sample", "ckpt=net", "n=2", "sampler.steps=3", f"out={name}", *more, *scale)
        assert result.code == 0, result.err
        drawn[name] = np.load(tmp_path / name / "samples.npz")["arr_0"].astype(int)
    assert np.array_equal(drawn["auto"], drawn["clean"]) and np.abs(drawn["auto"] - drawn["plain"]).max() > 1
    refused = cli("sample", "ckpt=net", "n=2", "out=s", *guide, "guidance.reads=noisy")
    assert refused.code == 2 and "guidance.reads: this classifier was trained on clean images" in refused.err
