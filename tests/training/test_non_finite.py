"""NaN and infinity, put in at every place: no checkpoint ever has them, and the last good one stays."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from ddpm_cli.training import em, loop, mixture
from ddpm_cli.training.randomness import StepRandom
from ddpm_cli.training.state import TrainState

from ..conftest import TINY, Cli

FAMILIES = {
    "diffusion": ["model=unet_tiny", "model.channels=8", "model.multipliers=[1]"],
    "autoencoder": ["model=vae_conv", "model.channels=4", "model.multipliers=[1]", "model.latent=2"],
    "classifier": ["model=resnet", "model.channels=4", "trainer.ema.decay=0.9"],
}
RUN = ["run_dir=run", "trainer.save_every=2", "logger=none", "trainer.log_every=50", "trainer.keep_last=2"]
RUN += ["trainer.batch_size=4", "trainer.samples=2", "trainer.eval_images=4", "trainer.sample_every=0"]
NAN, INF = float("nan"), float("inf")
PLACES = ("image", "target", "loss", "gradient", "weight", "average", "moment", "rate")
GIVEN = [(family, place) for family in FAMILIES for place in PLACES if (family, place) != ("classifier", "target")]
"""The targets of a classifier are whole numbers."""
Update = Callable[..., dict[str, Tensor]]


def rows(run: Path) -> list[dict[str, float]]:
    """Those that it wrote before its first check may be none."""
    file = run / "metrics.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


class Spoiled:
    """Puts `value` in at `place` in step `steps`.

    Args:
        steps: numbers of steps, from 0.
    """

    def __init__(self, place: str, value: float, steps: tuple[int, ...], monkeypatch: pytest.MonkeyPatch):
        self.place, self.value, self.steps = place, value, steps
        self.gradients, self.update, self.rates, self.normal = (
            loop.gradients, loop.update, loop.set_rates, StepRandom.normal,
        )  # fmt: skip
        monkeypatch.setattr(loop, "gradients", self.spoiled_gradients)
        monkeypatch.setattr(loop, "update", self.spoiled_update)
        monkeypatch.setattr(loop, "set_rates", self.spoiled_rates)
        monkeypatch.setattr(StepRandom, "normal", lambda rng, *shape: self.spoiled_normal(rng, *shape))

    def spoiled_normal(self, rng: StepRandom, *shape: int) -> Tensor:
        numbers = self.normal(rng, *shape)
        if self.place == "target" and rng.key[1] in self.steps and rng.key[0] == 0:
            numbers.flatten()[0] = self.value
        return numbers

    def spoiled_rates(self, state: TrainState, rates: Any, factor: float) -> None:
        self.rates(state, rates, self.value if self.place == "rate" and state.step in self.steps else factor)

    def spoiled_gradients(
        self, objective: Any, model: Any, state: TrainState, batch: Any, *rest: Any
    ) -> dict[str, Tensor]:
        now = state.step in self.steps
        if now and self.place == "image":
            batch.x[0, 0, 0, 0] = self.value
        logs = self.gradients(objective, model, state, batch, *rest)
        if now and self.place == "gradient":
            gradient = state.parameters[0].grad
            assert gradient is not None
            gradient.flatten()[0] = self.value
        if now and self.place == "loss":
            logs["loss"] = logs["loss"] + self.value
        return logs

    def spoiled_update(
        self, objective: Any, model: Any, state: TrainState, batch: Any, *rest: Any
    ) -> dict[str, Tensor]:
        now = state.step in self.steps
        logs = self.update(objective, model, state, batch, *rest)
        if now:
            self._spoil(state)
        return logs

    @torch.no_grad()
    def _spoil(self, state: TrainState) -> None:
        parameter = next(p for p in state.parameters if p.ndim)
        if self.place == "weight":
            parameter.flatten()[0] = self.value
        elif self.place == "average":
            assert state.ema is not None
            next(state.ema.module.parameters()).flatten()[0] = self.value
        elif self.place == "moment":
            memory = state.optimizer.state[parameter]
            next(v for v in memory.values() if isinstance(v, Tensor) and v.ndim).flatten()[0] = self.value


@pytest.mark.parametrize("value", [NAN, INF])
@pytest.mark.parametrize(("family", "place"), GIVEN)
def test_the_run_stops_and_no_checkpoint_has_it(
    value: float, family: str, place: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = random.Random(f"{family} {place} {value}").randrange(5, 9)
    command = ["train", *RUN, *FAMILIES[family], "trainer.steps=10", f"trainer.eval_every={'3' if value > 0 else '0'}"]
    Spoiled(place, value, (step,), monkeypatch)
    result = cli(*command)
    assert result.code == 5 and "a checkpoint saved earlier is intact" in result.err, result.err
    assert result.err.count("ddpm: error:") == 1
    found = sorted((tmp_path / "run/checkpoints").glob("*.safetensors"))
    last = step // 2 * 2
    assert [p.stem for p in found] == [f"step_{n:08d}" for n in (last - 2, last)]
    assert all(bool(t.isfinite().all()) for p in found for t in load_file(p).values() if t.is_floating_point())
    assert all(v - v == 0 for row in rows(tmp_path / "run") for v in row.values())
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    again = cli(*command)
    assert again.code == 0 and f"resuming from step {last}" in again.err


@pytest.mark.parametrize(("family", "place"), [(family, place) for family, place in GIVEN if place in PLACES[:4]])
@pytest.mark.parametrize(
    ("bad", "code"), [((3,), 0), ((3, 4, 7), 0), (tuple(range(3, 14)), 5)], ids=["one", "three", "too many"]
)
def test_skipping_leaves_the_weights_as_they_were(
    bad: tuple[int, ...], code: int, family: str, place: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoiled, states = Spoiled(place, INF if len(bad) == 1 else NAN, bad, monkeypatch), {}

    def watched(objective: Any, model: Any, state: TrainState, batch: Any, *rest: Any) -> dict[str, Tensor]:
        step, before = state.step, {name: t.clone() for name, t in state.tensors().items()}
        logs = spoiled.spoiled_update(objective, model, state, batch, *rest)
        states[step] = all(torch.equal(before[name], t) for name, t in state.tensors().items() if name in before)
        return logs

    monkeypatch.setattr(loop, "update", watched)
    result = cli("train", *RUN, *FAMILIES[family], "trainer.on_nan=skip", "trainer.steps=16", "trainer.eval_every=4")
    assert result.code == code, result.err
    assert [step for step, same in states.items() if same] == [step for step in bad if step < 13]
    assert result.err.count("skipped, as its loss or gradient is NaN") == min(len(bad), loop.SHOWN)
    if code:
        assert "10 steps in a row up to step 13" in result.err
    else:
        assert all(v - v == 0 for row in rows(tmp_path / "run") for v in row.values())


def test_skipping_leaves_the_statistics_of_adaptive_times_as_they_were(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They decide the times of all later steps."""
    Spoiled("image", NAN, (3,), monkeypatch)
    more = ["times=importance", "trainer.on_nan=skip", "trainer.steps=6", "trainer.eval_every=0"]
    assert cli("train", *RUN, *FAMILIES["diffusion"], *more).code == 0
    saved = load_file(tmp_path / "run/checkpoints/step_00000006.safetensors")
    times = [t for name, t in saved.items() if name.startswith("times.")]
    assert times and all(bool(t.isfinite().all()) for t in times)


@pytest.mark.parametrize("value", [NAN, INF])
@pytest.mark.parametrize("place", ["image", "means", "factors", "likelihood"])
def test_a_mixture_stops_and_no_checkpoint_has_it(
    place: str, value: float, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, images, calls = em.iterate, em.dequantized_images, []

    def iterate(mixture: Any, points: Tensor, *rest: Any, **options: Any) -> float:
        new = original(mixture, points, *rest, **options)
        calls.append(new)
        if len(calls) == 3 and place in ("means", "factors"):
            getattr(mixture, place).flatten()[0] = value
        return value if len(calls) == 3 and place == "likelihood" else new

    def spoiled(*arguments: Any) -> Tensor:
        x = images(*arguments)
        if place == "image":
            x.flatten()[0] = value
        return x

    command = ["train", "run_dir=run", "model=gmm", "trainer.steps=5", "logger=none", "trainer.keep_last=2"]
    if place == "image":  # a session that goes on from a good one
        assert cli(*command, "trainer.steps=2").code == 0
    monkeypatch.setattr(em, "iterate", iterate)
    monkeypatch.setattr(em, "dequantized_images", spoiled)
    result = cli(*command)
    assert result.code == 5 and result.err.count("ddpm: error:") == 1, result.err
    found = sorted((tmp_path / "run/checkpoints").glob("*.safetensors"))
    assert [p.stem for p in found] == ["step_00000001", "step_00000002"]
    assert all(bool(t.isfinite().all()) for p in found for n, t in load_file(p).items() if n.startswith("model."))
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert mixture.fit and cli(*command).code == 0


def test_a_period_without_a_step_has_no_best_checkpoint(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """All steps of a log line were skipped."""
    update = loop.update

    def skipped(objective: Any, model: Any, state: Any, *rest: Any) -> dict[str, Any]:
        logs = update(objective, model, state, *rest)
        return {} if state.step == 2 else logs

    monkeypatch.setattr(loop, "update", skipped)
    best = ["trainer.on_nan=skip", "trainer.best_by=loss", "trainer.log_every=1", "trainer.sample_every=0"]
    result = cli("train", "run_dir=run", "trainer.steps=4", "logger=none", *best, *TINY)
    assert result.code == 0, result.err
