"""Actions once per epoch, and the best checkpoint by training loss."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ddpm_cli.data.images import Images
from ddpm_cli.objectives.base import LabelledBatch, Loss, Random
from ddpm_cli.runs import checkpoint
from ddpm_cli.runs.directory import RunDirectory
from ddpm_cli.training.loop import train
from ddpm_cli.training.plan import Every, Plan
from ddpm_cli.training.state import TrainState
from ddpm_cli.training.validation import Callbacks

from ..conftest import TINY, Cli
from .test_loop import Quiet


def due(every: Every, batch_size: int, images: int, steps: int) -> list[int]:
    plan = Plan(batch_size=batch_size)
    return [step for step in range(1, steps + 1) if plan.due(every, step, images)]


def test_an_epoch_ends_with_its_last_image() -> None:
    assert due("epoch", 5, 10, 7) == [2, 4, 6]
    assert due("epoch", 4, 10, 8) == [3, 5, 8]  # images 12, 20, 32: each the first at or beyond 10, 20, 30
    assert due("epoch", 25, 10, 3) == [1, 2, 3]  # several epochs per step
    for batch_size, images in ((4, 10), (7, 10), (3, 3), (128, 1000)):  # epochs=n ends where the n-th epoch does
        ends = due("epoch", batch_size, images, 60)
        assert ends[2] == Plan(epochs=3, batch_size=batch_size).length(images)
    assert due(3, 4, 10, 8) == [3, 6] and due(0, 4, 10, 8) == []


@pytest.mark.parametrize(
    "options", [{"best_by": "loss", "log_every": 0}, {"best_by": "val_loss", "eval_every": 0}, {"save_every": -1}]
)
def test_invalid_combinations_name_the_key(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(options))}: "):
        Plan(**options)
    Plan(best_by="loss", log_every="epoch", eval_every=0)


class GivenLosses:
    """An objective with prescribed losses, one number per step."""

    def __init__(self, values: list[float], step: int = 0):
        self.values, self.step = values, step

    def __call__(self, model: nn.Module, batch: LabelledBatch, rng: Random) -> Loss:
        value = 0 * model(batch.x).mean() + self.values[self.step]
        self.step += 1
        return Loss(value, {"loss": value.detach()})


def session(folder: Path, losses: list[float], plan: Plan) -> TrainState:
    pixels: Tensor = torch.zeros(4, 1, 2, 2, dtype=torch.uint8)
    module = nn.Conv2d(1, 1, 1)
    state = TrainState(module, torch.optim.SGD(module.parameters(), 0.1), None)
    start = checkpoint.latest(folder / "checkpoints")
    if start is not None:
        state.load(start)
    with RunDirectory(folder, Quiet(-1)) as run:
        run.open(state.step, {}, {})
        data = Images(pixels, torch.zeros(4, dtype=torch.int64), ())
        objective = GivenLosses(losses, state.step)
        assert train(objective, module, state, data, plan, run, Callbacks(), seed=0)  # type: ignore[arg-type]
    return state


LOSSES = [9.0, 5.0, 1.0, 4.0, 3.0, 4.0, 0.5, 8.0, 0.1, 0.1, 9.0, 0.05]
"""The means of epochs of two steps are 7, 2.5, 3.5, 4.25, 0.1, 4.525."""


def plan_of(steps: int) -> Plan:
    every: dict[str, Any] = {"log_every": "epoch", "save_every": 0, "sample_every": 0, "eval_every": 0}
    return Plan(steps=steps, batch_size=2, keep_last=2, save_seconds=None, best_by="loss", **every)


def test_the_epoch_with_the_lowest_mean_loss_is_kept(tmp_path: Path) -> None:
    state = session(tmp_path, LOSSES, plan_of(8))
    assert state.best == {"step": 4, "value": 2.5, "by": "loss"}
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(row["step"], row["loss"]) for row in lines] == [(2, 7), (4, 2.5), (6, 3.5), (8, 4.25)]
    saved = sorted(int(p.stem.removeprefix("step_")) for p in (tmp_path / "checkpoints").glob("*.json"))
    assert saved == [4, 8]  # the best, and the last


@pytest.mark.parametrize("stops", [(3, 12), (1, 5, 9, 11, 12), (4, 7, 11, 12)])
def test_sessions_that_end_within_an_epoch_find_the_same_best(stops: tuple[int, ...], tmp_path: Path) -> None:
    """The mean over an epoch does not depend on where the run was interrupted, and half epochs do not count."""
    whole = session(tmp_path / "whole", LOSSES, plan_of(12))
    for stop in stops:
        state = session(tmp_path / "parts", LOSSES, plan_of(stop))
    assert state.best == whole.best == {"step": 10, "value": pytest.approx(0.1), "by": "loss"}


def test_half_an_epoch_is_never_the_best(tmp_path: Path) -> None:
    state = session(tmp_path, LOSSES, plan_of(7))
    assert state.best == {"step": 4, "value": 2.5, "by": "loss"}  # step 7 alone would be 0.5


def test_a_run_by_epochs_is_resumed_bit_for_bit(cli: Cli, tmp_path: Path) -> None:
    """1,617 digits in batches of 600 are epochs of 2.7 steps: they end at steps 3, 6 and 9."""
    tiny = [a for a in TINY if "batch_size" not in a]
    every = [f"trainer.{what}_every=epoch" for what in ("log", "save", "sample", "eval")]
    arguments = [*tiny, *every, "trainer.batch_size=600", "trainer.best_by=loss", "sampler.steps=2", "logger=none"]
    assert cli("train", "run_dir=whole", "trainer.epochs=3", *arguments).code == 0
    for steps in (4, 9):
        assert cli("train", "run_dir=parts", f"trainer.steps={steps}", *arguments).code == 0
    found = {}
    for name in ("whole", "parts"):
        manifest = json.loads((tmp_path / name / "checkpoints/step_00000009.json").read_text())
        found[name] = (manifest["sha256"], manifest["best"])
    assert found["whole"] == found["parts"]
    samples = sorted(p.stem for p in (tmp_path / "whole/samples").glob("*.png"))
    assert samples == [f"step_{n:08d}" for n in (3, 6, 9)]
    rows = [json.loads(line) for line in (tmp_path / "whole/metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == [3, 6, 9] == [r["step"] for r in rows if "val_loss" in r]
    refused = cli("train", "run_dir=other", *arguments, "trainer.save_every=often")
    assert refused.code == 2 and "trainer.save_every: must be a whole number or 'epoch'" in refused.err


def test_best_by_loss_needs_no_held_out_images(cli: Cli) -> None:
    arguments = [*TINY, "trainer.sample_every=0", "logger=none", "dataset.val_fraction=0", "trainer.log_every=1"]
    assert cli("train", "run_dir=run", "trainer.steps=2", "trainer.best_by=loss", *arguments).code == 0
