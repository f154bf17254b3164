"""Training an image classifier from end to end: what it learns, resume, the best checkpoint judged, as guidance."""

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


def verdicts(run: Path) -> list[dict[str, Any]]:
    return [row for row in rows(run) if "best_step" in row]


def accuracy(run: Path, step: int, kind: str) -> float:
    """Of the weights in a checkpoint on the held-out digits, without the program's own validation."""
    manifest = json.loads((run / f"checkpoints/step_{step:08d}.json").read_text())
    node = {k: v for k, v in manifest["config"]["model"].items() if k != "_target_"}
    model = ResNet(**node).eval()
    tensors = load_file(run / f"checkpoints/step_{step:08d}.safetensors")
    model.load_state_dict({k.removeprefix(f"{kind}."): v for k, v in tensors.items() if k.startswith(f"{kind}.")})
    val = Digits().load("val")
    with torch.no_grad():
        right = model(val.pixels.float() / 127.5 - 1).argmax(1) == val.labels
    return float(right.float().mean())


def test_it_learns_digits_and_the_best_is_judged(cli: Cli, tmp_path: Path) -> None:
    often = ["trainer.eval_every=40", "trainer.best_by=val_accuracy", "trainer.eval_images=50"]
    arguments = ["run_dir=run", "trainer.steps=160", *SMALL, *often, "logger=none"]
    result = cli("train", *arguments)
    assert result.code == 0, result.err
    run = tmp_path / "run"
    curve = {row["step"]: row["val_accuracy"] for row in rows(run) if "val_accuracy" in row and "best_step" not in row}
    assert list(curve) == [40, 80, 120, 160] and curve[160] > 0.85
    best = max(curve, key=lambda step: (curve[step], -step))
    (verdict,) = verdicts(run)
    assert rows(run)[-1] == verdict and (verdict["step"], verdict["best_step"]) == (160, best)
    assert verdict["val_accuracy"] == pytest.approx(accuracy(run, best, "ema"))  # all 180, by the average
    assert "test_accuracy" not in verdict and f"val accuracy {verdict['val_accuracy']:.4f} (n=180)" in result.out
    again = cli("train", *arguments)
    assert "already finished" in again.out and verdicts(run) == [verdict]


def test_a_judgement_that_was_cut_short_is_made_up_for(cli: Cli, tmp_path: Path) -> None:
    arguments = ["run_dir=run", "trainer.steps=10", *SMALL, *BEST, "logger=none", "trainer.ema.decay=0"]
    assert cli("train", *arguments).code == 0
    run = tmp_path / "run"
    kept = [line for line in (run / "metrics.jsonl").read_text().splitlines(True) if "best_step" not in line]
    (verdict,) = verdicts(run)
    (run / "metrics.jsonl").write_text("".join(kept))
    weights = (run / "checkpoints/step_00000010.safetensors").read_bytes()
    assert cli("train", *arguments).code == 0
    assert verdicts(run) == [verdict] and (run / "checkpoints/step_00000010.safetensors").read_bytes() == weights
    assert verdict["val_accuracy"] == pytest.approx(accuracy(run, verdict["best_step"], "model"))
    assert cli("train", *arguments, "trainer.steps=15").code == 0  # a longer run is judged anew
    assert [row["step"] for row in verdicts(run)] == [10, 15]


@pytest.mark.parametrize(
    "more",
    [[], ["optimizer=adamw_small", "trainer.ema.decay=0", "objective.crop_scale=[0.6,1]", "dataset.flip=true",
          "trainer.lr_decay=steps", "trainer.lr_milestones=[0.01]"]],
)  # fmt: skip
@pytest.mark.parametrize("model", ["resnet", "densenet"])
def test_ten_steps_are_five_and_five_more(model: str, more: list[str], cli: Cli, tmp_path: Path) -> None:
    """Statistics of batch normalisation, momentum, crops and all; judged once at the end."""
    size = ["model.channels=8", "model.blocks=1" if model == "resnet" else "model.blocks=[1,2]"]
    common = [f"model={model}", *size, *BEST, "trainer.batch_size=16", *more]
    assert cli("train", "run_dir=whole", "trainer.steps=10", *common).code == 0
    for steps in (5, 10):
        result = cli("train", "run_dir=parts", f"trainer.steps={steps}", *common)
        assert result.code == 0 and "changed settings" not in result.err, result.err
    name = "checkpoints/step_00000010.safetensors"
    assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()
    assert [row["step"] for row in verdicts(tmp_path / "whole")] == [10]
    assert [row["step"] for row in verdicts(tmp_path / "parts")] == [5, 10]


def test_looking_and_drawing_the_graph_do_not_touch_training(cli: Cli, tmp_path: Path) -> None:
    common = [*SMALL, "trainer.steps=6", "trainer.batch_size=16", "trainer.sample_every=0"]
    blind = ["logger=none", "trainer.eval_every=0"]
    seeing = ["logger=tensorboard", "trainer.eval_every=1", "trainer.best_by=val_loss"]
    assert cli("train", "run_dir=blind", *common, *blind).code == 0
    assert cli("train", "run_dir=seeing", *common, *seeing).code == 0
    name = "checkpoints/step_00000006.safetensors"
    assert (tmp_path / "blind" / name).read_bytes() == (tmp_path / "seeing" / name).read_bytes()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "seeing/tensorboard"))
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
def test_official_test_images_are_reported_when_they_did_not_choose(
    fraction: str, test: bool, cli: Cli, tmp_path: Path
) -> None:
    write_mnist(tmp_path)
    data = ["dataset=mnist", "dataset.root=.", "dataset.download=false", f"dataset.val_fraction={fraction}"]
    result = cli("train", "run_dir=run", "trainer.steps=2", "trainer.batch_size=4", *SMALL, *data, *BEST)
    assert result.code == 0, result.err
    (verdict,) = verdicts(tmp_path / "run")
    assert ("test_accuracy" in verdict) == test == ("test accuracy" in result.out)
    if test:
        assert round(verdict["test_accuracy"] * 6, 3) in range(7) and "n=6" in result.out
    else:
        assert "they also chose the checkpoint" in " ".join(result.out.split())


def test_it_guides_a_generator_by_its_estimates(cli: Cli, tmp_path: Path) -> None:
    """An untimed classifier sees estimates of x0; whoever asks for x_t is refused."""
    assert cli("train", "run_dir=net", "model.class_conditional=false", "trainer.steps=1", *TINY).code == 0
    assert cli("train", "run_dir=judge", *SMALL, "trainer.steps=30", "logger=none").code == 0
    guide = ["guidance=classifier", "guidance.classifier=judge", "labels=[3,8]"]
    drawn = {}
    for name, more in {"plain": [], "auto": guide, "clean": [*guide, "guidance.reads=clean"]}.items():
        scale = ["guidance.scale=50"] if more else []
        result = cli("sample", "ckpt=net", "n=2", "sampler.steps=3", f"out={name}", *more, *scale)
        assert result.code == 0, result.err
        drawn[name] = np.load(tmp_path / name / "samples.npz")["arr_0"].astype(int)
    assert np.array_equal(drawn["auto"], drawn["clean"]) and np.abs(drawn["auto"] - drawn["plain"]).max() > 1
    refused = cli("sample", "ckpt=net", "n=2", "out=s", *guide, "guidance.reads=noisy")
    assert refused.code == 2 and "guidance.reads: this classifier was trained on clean images" in refused.err
