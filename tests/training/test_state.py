"""Everything that changes while a model trains is in its checkpoints."""

from pathlib import Path
from typing import Any

import pytest
import torch

from ddpm_cli.diffusion.target import V
from ddpm_cli.errors import CheckpointError
from ddpm_cli.objectives.denoising import Denoising
from ddpm_cli.objectives.times import Importance
from ddpm_cli.runs import checkpoint
from ddpm_cli.training.plan import Decay, Plan

from .tiny import TinyTraining


def training() -> TinyTraining:
    plan = Plan(batch_size=8, ema=Decay(0.9), precision="fp32")
    return TinyTraining(plan, objective=Denoising(V(), times=Importance(bins=4, seen=1)))


def test_all_that_changes_is_saved_and_restored(tmp_path: Path) -> None:
    one, two = training(), training()
    one.steps(3)
    one.state.seconds = 2.5
    one.state.best = {"step": 2, "value": 0.5, "by": "loss"}
    one.state.chosen = {"compile": "eager", "micro_batch_size": 4}
    one.state.period.add({"loss": torch.tensor(0.25)})
    manifest = {"seconds": one.state.seconds, "config": {}, **one.state.notes()}
    saved = checkpoint.save(tmp_path, one.state.step, one.state.tensors(), manifest)
    two.state.load(checkpoint.load(saved.manifest_path))
    assert two.state.step == 3 and two.state.seconds == 2.5
    period = {"total": 0.25, "steps": 1}
    assert two.state.notes() == {"best": one.state.best, "chosen": one.state.chosen, "period": period}
    assert one.state.best["step"] == 2 and one.state.chosen["micro_batch_size"] == 4
    before, after = one.state.tensors(), two.state.tensors()
    assert {name.partition(".")[0] for name in before} == {"model", "ema", "optimizer", "times"}
    moments = {name.rpartition(".")[2] for name in before if name.startswith("optimizer.")}
    assert moments == {"step", "exp_avg", "exp_avg_sq"}
    assert before.keys() == after.keys() and all(before[name].equal(after[name]) for name in before)
    assert not all(before[f"ema.{n}"].equal(before[f"model.{n}"]) for n in one.state.module.state_dict())
    assert one.steps(2) == two.steps(2)
    before, after = one.state.tensors(), two.state.tensors()
    assert all(before[name].equal(after[name]) for name in before)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"period": {"total": {}}},
        {"best": {"step": 1}},
        {"best": {"step": 1, "value": []}},
        {"chosen": {"micro_batch_size": "x"}},
    ],
    ids=str,
)
def test_a_checkpoint_with_other_values_is_one_line(change: dict[str, Any], tmp_path: Path) -> None:
    """Only a stranger writes one: its digests fit."""
    state = training().state
    tensors, notes = dict(state.tensors()), state.notes() | change
    if not change:
        tensors["optimizer.nothing.exp_avg"] = torch.zeros(1)
    saved = checkpoint.save(tmp_path, 1, tensors, {"seconds": 0.0, "config": {}, **notes})
    with pytest.raises(CheckpointError, match="does not have what this run saves"):
        state.load(saved)
