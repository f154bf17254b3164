"""The loop itself, on a network of one weight."""

import json
import os
import signal
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ddpm_cli.data.images import Images
from ddpm_cli.objectives.base import LabelledBatch, Loss, Random
from ddpm_cli.progress import Progress, silent
from ddpm_cli.runs import checkpoint
from ddpm_cli.runs.directory import RunDirectory
from ddpm_cli.training import loop
from ddpm_cli.training.loop import train
from ddpm_cli.training.plan import Plan
from ddpm_cli.training.state import TrainState
from ddpm_cli.training.validation import Callbacks

from ..conftest import TINY, Cli


class Quiet:
    """A reporter that stops the run at `step`, right after the loop has checked for signals."""

    def __init__(self, step: int):
        self.at = step
        self.run: RunDirectory | None = None

    def begin(self, config: Mapping[str, Any], folder: Path) -> None: ...

    def counting(self) -> AbstractContextManager[Progress]:
        return nullcontext(silent)

    def start(self, step: int, total: int) -> None: ...

    def advance(self, step: int, seconds: float) -> None: ...

    def metrics(self, step: int, row: Mapping[str, Any]) -> None:
        if step == self.at and self.run is not None:
            self.run.stops.signal = signal.SIGINT

    def pictures(self, step: int, path: Path, pixels: Tensor, across: int | None) -> None: ...

    def stop(self) -> None: ...


def square(model: nn.Module, batch: LabelledBatch, rng: Random) -> Loss:
    value = (model(batch.x) ** 2).mean()
    return Loss(value, {"loss": value.detach()})


def pictures() -> Images:
    pixels: Tensor = torch.arange(4 * 4, dtype=torch.uint8).view(4, 1, 2, 2)
    return Images(pixels, torch.zeros(4, dtype=torch.int64), ())


def test_a_signal_always_leads_to_a_save(tmp_path: Path) -> None:
    """A signal that arrives after the step has checked for it must not end the loop without a save."""
    reporter = Quiet(3)
    module = nn.Conv2d(1, 1, 1)
    state = TrainState(module, torch.optim.SGD(module.parameters(), 0.1), None)
    with RunDirectory(tmp_path / "run", reporter) as run:
        reporter.run = run
        run.open(0, {}, {})
        plan = Plan(steps=100, batch_size=2, log_every=1, save_every=0, sample_every=0, eval_every=0)
        assert not train(square, module, state, pictures(), plan, run, Callbacks(), seed=0)
    newest = checkpoint.latest(tmp_path / "run/checkpoints")
    assert newest is not None and newest.step == state.step == 4


@pytest.mark.parametrize(("seconds", "saved"), [(1e-9, [4, 5, 6]), (3600.0, [6]), (None, [6])])
def test_a_checkpoint_is_saved_every_save_seconds(seconds: float | None, saved: list[int], tmp_path: Path) -> None:
    """On a slow machine save_every steps may take hours."""
    module = nn.Conv2d(1, 1, 1)
    state = TrainState(module, torch.optim.SGD(module.parameters(), 0.1), None)
    with RunDirectory(tmp_path / "run", Quiet(-1)) as run:
        run.open(0, {}, {})
        plan = Plan(steps=6, batch_size=2, save_every=0, save_seconds=seconds, sample_every=0, eval_every=0)
        assert train(square, module, state, pictures(), plan, run, Callbacks(), seed=0)
    steps = sorted(int(p.stem.removeprefix("step_")) for p in (tmp_path / "run/checkpoints").glob("*.json"))
    assert steps == saved


@pytest.mark.parametrize("before", [0, 2])
def test_a_signal_does_not_wait_for_the_first_step_of_a_session(
    before: int, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nothing to save, and a step that compiles takes minutes."""
    run = ["run_dir=run", "trainer.sample_every=0", "trainer.eval_every=0", "logger=none", *TINY]
    assert not before or cli("train", f"trainer.steps={before}", *run).code == 0
    original, ended = loop.update, []

    def stopped(*arguments: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        ended.append(original(*arguments))
        return ended[-1]

    with monkeypatch.context() as patch:
        patch.setattr(loop, "update", stopped)
        result = cli("train", f"trainer.steps={before + 2}", *run)
    assert result.code == 143 and "stopped without saving" in result.err and not ended
    assert len(list((tmp_path / "run").rglob("*.safetensors"))) == (before > 0)
    assert cli("train", f"trainer.steps={before + 2}", *run).code == 0


@pytest.mark.parametrize("at", [2, 4])
def test_what_a_signal_left_out_is_made_up_for(
    at: int, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The picture, the validation and the best checkpoint are those of an undisturbed run; also at its end."""
    run = ["trainer.steps=4", "trainer.save_every=2", "trainer.sample_every=2", "trainer.eval_every=2", "logger=none"]
    run += ["trainer.best_by=val_loss", "sampler.steps=2", *TINY]
    assert cli("train", "run_dir=whole", *run).code == 0
    original = loop.update

    def stopped(objective: Any, model: Any, state: Any, *rest: Any) -> Any:
        logs = original(objective, model, state, *rest)
        if state.step == at:
            os.kill(os.getpid(), signal.SIGTERM)
        return logs

    with monkeypatch.context() as patch:
        patch.setattr(loop, "update", stopped)
        assert cli("train", "run_dir=parts", *run).code == 143
    assert not (tmp_path / f"parts/samples/step_{at:08d}.png").exists()
    assert cli("train", "run_dir=parts", *run).code == 0
    assert "already finished" in cli("train", "run_dir=parts", *run).out
    for name in ("samples/step_00000002.png", "samples/step_00000004.png"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()
    one, other = (json.loads((tmp_path / n / "checkpoints/step_00000004.json").read_text()) for n in ("whole", "parts"))
    assert one["best"] == other["best"] and "owed" not in other
