"""The distributions of the training times."""

import math

import pytest
import torch

from ddpm_cli.diffusion.continuous import EDMSchedule, FlowSchedule
from ddpm_cli.diffusion.schedule import CosineSchedule, LinearSchedule
from ddpm_cli.objectives.times import Importance, LogitNormal, LogNormal, Stratified, Uniform
from ddpm_cli.training.randomness import StepRandom

CPU = torch.device("cpu")


def rng(step: int = 0, total: int = 20_000, rows: slice | None = None) -> StepRandom:
    return StepRandom(0, step, CPU, total, rows)


def test_uniform_draws_each_step_of_the_table_equally_often() -> None:
    t, factor = Uniform().draw(LinearSchedule(steps=10), rng())
    assert factor is None
    counts = (t * 10).round().long().bincount(minlength=11)
    assert counts[0] == 0 and bool((counts[1:] - 2000).abs().max() < 5 * math.sqrt(2000))


def test_stratified_has_one_draw_in_each_part() -> None:
    t, _ = Stratified().draw(FlowSchedule(), rng(total=64))
    assert ((1 - t) * 64).floor().long().tolist() == list(range(64))
    parts = [Stratified().draw(FlowSchedule(), rng(total=64, rows=slice(a, a + 16)))[0] for a in range(0, 64, 16)]
    assert torch.equal(torch.cat(parts), t)  # micro-batches draw the same times


@pytest.mark.parametrize("schedule", [EDMSchedule(), CosineSchedule(), FlowSchedule()], ids=lambda s: type(s).__name__)
def test_lognormal_is_normal_in_the_log_of_the_noise_level(schedule: EDMSchedule) -> None:
    t, _ = LogNormal(mean=-1.0, std=0.5).draw(schedule, rng())
    alpha, sigma = schedule(t.double())
    noise = torch.log(sigma / alpha)
    assert abs(float(noise.mean()) + 1.0) < 0.02 and abs(float(noise.std()) - 0.5) < 0.02


def test_logit_normal() -> None:
    t, _ = LogitNormal(mean=0.5, std=0.7).draw(FlowSchedule(), rng())
    logit = torch.logit(t.double())
    assert abs(float(logit.mean()) - 0.5) < 0.02 and abs(float(logit.std()) - 0.7) < 0.02


def loss_at(t: torch.Tensor) -> torch.Tensor:
    """A steep loss, largest at low noise."""
    return torch.exp(-5 * t) * 3 + 0.01


def warmed(bins: int = 20) -> Importance:
    times, schedule = Importance(bins=bins), FlowSchedule()
    for step in range(200):
        t, _ = times.draw(schedule, rng(step, 64))
        times.observe(t, loss_at(t), rng(step, 64))
    return times


def test_importance_is_proportional_to_the_root_of_the_second_moment() -> None:
    times = warmed()
    p = times.probabilities()
    assert float(p.sum()) == pytest.approx(1, abs=1e-5)
    u = (torch.arange(20) + 0.5) / 20
    expected = loss_at(1 - u)
    expected = 0.99 * expected / expected.sum() + 0.01 / 20
    assert bool(((p / expected - 1).abs() < 0.1).all())


def test_importance_estimates_the_same_mean_with_less_variance() -> None:
    schedule = FlowSchedule()
    truth = float(loss_at(torch.linspace(0, 1, 100_001)).mean())
    even = loss_at(Uniform().draw(schedule, rng(999))[0])
    t, factor = warmed().draw(schedule, rng(999))
    assert factor is not None
    corrected = loss_at(t) * factor
    error = 5 * float(corrected.std()) / math.sqrt(len(t))
    assert abs(float(corrected.mean()) - truth) < error
    assert float(corrected.std()) < 0.35 * float(even.std())


def test_importance_is_uniform_until_every_bin_has_enough_images() -> None:
    times = Importance(bins=4, seen=10)
    t, factor = times.draw(FlowSchedule(), rng(0, 8))
    assert factor is not None and torch.allclose(factor, torch.ones(8))
    times.observe(t, torch.full((8,), 100.0), rng(0, 8))
    assert torch.allclose(times.probabilities(), torch.full((4,), 0.25))


def test_importance_does_not_depend_on_accumulation_and_resumes_from_its_buffers() -> None:
    whole, split = Importance(bins=5, seen=1), Importance(bins=5, seen=1)
    for step in range(4):
        if step == 2:  # save and load as a checkpoint does
            resumed = Importance(bins=5, seen=1)
            resumed.load_state_dict(split.state_dict())
            split = resumed
        t, factor = whole.draw(FlowSchedule(), rng(step, 32))
        whole.observe(t, loss_at(t), rng(step, 32))
        for rows in (slice(0, 20), slice(20, 32)):
            part, part_factor = split.draw(FlowSchedule(), rng(step, 32, rows))
            assert factor is not None and part_factor is not None
            torch.testing.assert_close(part, t[rows])
            torch.testing.assert_close(part_factor, factor[rows])
            split.observe(part, loss_at(part), rng(step, 32, rows))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LogNormal(std=0.0), "std"),
        (lambda: LogitNormal(std=-1.0), "std"),
        (lambda: Importance(bins=1), "bins"),
        (lambda: Importance(decay=1.0), "decay"),
        (lambda: Importance(floor=0.0), "floor"),
    ],
)
def test_out_of_range(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}: must be"):
        make()  # type: ignore[operator]
