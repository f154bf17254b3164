"""NaN and infinity, put in at every place: no checkpoint ever has them, and the last good one stays."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from ddpm_cli.training import loop
from ddpm_cli.training.state import TrainState

from ..conftest import TINY, Cli

RUN = ["run_dir=run", "trainer.save_every=2", "logger=none", "trainer.log_every=50", *TINY]
Update = Callable[..., dict[str, Tensor]]


def spoil(place: str, state: TrainState, value: float) -> None:
    parameter = state.parameters[0]
    with torch.no_grad():
        if place == "weight":
            parameter.flatten()[0] = value
        elif place == "average":
            assert state.ema is not None
            next(state.ema.module.parameters()).flatten()[0] = value
        elif place == "moment":
            memory = state.optimizer.state[parameter]
            next(v for v in memory.values() if isinstance(v, Tensor) and v.ndim).flatten()[0] = value


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("place", ["image", "loss", "weight", "average", "moment"])
def test_the_run_stops_and_no_checkpoint_has_it(
    place: str, value: float, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original: Update = loop.update

    def spoiled(objective: Any, model: Any, state: TrainState, batch: Any, *rest: Any) -> dict[str, Tensor]:
        if state.step == 5 and place == "image":
            batch.x[0, 0, 0, 0] = value
        logs = original(objective, model, state, batch, *rest)
        if state.step == 6:
            spoil(place, state, value)
            if place == "loss":
                logs["loss"] = logs["loss"] + value
        return logs

    monkeypatch.setattr(loop, "update", spoiled)
    result = cli("train", *RUN, "trainer.steps=10")
    assert result.code == 5 and "a checkpoint saved earlier is intact" in result.err, result.err
    found = sorted((tmp_path / "run/checkpoints").glob("*.safetensors"))
    assert [p.stem for p in found] == ["step_00000002", "step_00000004"]
    assert all(bool(t.isfinite().all()) for p in found for t in load_file(p).values())
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    again = cli("train", *RUN, "trainer.steps=10")
    assert again.code == 0 and "resuming from step 4" in again.err


@pytest.mark.parametrize(("bad", "code"), [((3,), 0), ((3, 4, 7), 0), (tuple(range(3, 14)), 5)])
def test_skipping_leaves_the_weights_as_they_were(
    bad: tuple[int, ...], code: int, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, weights = loop.update, {}

    def spoiled(objective: Any, model: Any, state: TrainState, batch: Any, *rest: Any) -> dict[str, Tensor]:
        step, before = state.step, [p.detach().clone() for p in state.parameters]
        if step in bad:
            batch.x[0, 0, 0, 0] = float("nan")
        logs = original(objective, model, state, batch, *rest)
        weights[step] = all(torch.equal(a, b) for a, b in zip(before, state.parameters, strict=True))
        return logs

    monkeypatch.setattr(loop, "update", spoiled)
    result = cli("train", *RUN, "trainer.on_nan=skip", "trainer.steps=16")
    assert result.code == code, result.err
    assert [step for step, same in weights.items() if same] == [step for step in bad if step < 13]
    assert result.err.count("skipped, as its loss or gradient is NaN") == min(len(bad), loop.SHOWN)
    if code:
        assert "10 steps in a row up to step 13" in result.err
    else:
        rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
        assert all(row.get("loss", 0) == row.get("loss", 0) for row in rows)
