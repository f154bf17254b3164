"""Schedules without a table, and the options of all schedules."""

import math

import pytest
import torch

from ddpm_cli.diffusion.continuous import EARLIEST, EDMSchedule, FlowSchedule
from ddpm_cli.diffusion.schedule import (
    CosineSchedule,
    DiscreteSchedule,
    LinearSchedule,
    ScaledLinearSchedule,
    Schedule,
    SigmoidSchedule,
)

ALL: list[Schedule] = [
    LinearSchedule(),
    ScaledLinearSchedule(),
    CosineSchedule(),
    SigmoidSchedule(),
    LinearSchedule(zero_terminal_snr=True),
    CosineSchedule(shift=3.0),
    EDMSchedule(),
    EDMSchedule(shift=2.0),
    FlowSchedule(),
    FlowSchedule(shift=3.0),
]


def noise(schedule: Schedule, t: torch.Tensor) -> torch.Tensor:
    alpha, sigma = schedule(t)
    return sigma / alpha


@pytest.mark.parametrize("schedule", ALL, ids=str)
def test_snr_decreases_from_a_clean_image(schedule: Schedule) -> None:
    t = torch.linspace(0, 1, 4001, dtype=torch.float64)
    alpha, sigma = schedule(t)
    assert float(alpha[0]) == 1 and float(sigma[0]) == 0
    assert bool((torch.atan2(sigma, alpha).diff() > 0).all())
    assert schedule.variance_preserving == bool(torch.allclose(alpha**2 + sigma**2, torch.ones_like(t)))


@pytest.mark.parametrize("schedule", ALL, ids=str)
def test_time_of_noise_level_inverts_the_noise_level(schedule: Schedule) -> None:
    t = torch.linspace(0.0005, 1, 997, dtype=torch.float64)
    torch.testing.assert_close(schedule.time_of_noise_level(noise(schedule, t)), t, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("schedule", ALL, ids=str)
def test_training_times_are_valid(schedule: Schedule) -> None:
    """They are never 0, where eps is undefined, and `nearest_training_time` does not change them."""
    t = schedule.training_time(torch.linspace(0, 1 - 2**-24, 2000))
    assert float(t.min()) > 0 and float(t.max()) == pytest.approx(1)
    torch.testing.assert_close(schedule.nearest_training_time(t), t)
    assert bool(schedule.conditioning(t).isfinite().all())


@pytest.mark.parametrize(
    "pair",
    [(LinearSchedule(), LinearSchedule(shift=2.0)), (EDMSchedule(), EDMSchedule(shift=2.0)),
     (FlowSchedule(), FlowSchedule(shift=2.0))],
    ids=["linear", "edm", "flow"],
)  # fmt: skip
def test_shift_multiplies_the_noise_level(pair: tuple[Schedule, Schedule]) -> None:
    t = torch.arange(1, 1000, dtype=torch.float64) / 1000
    torch.testing.assert_close(noise(pair[1], t), 2 * noise(pair[0], t), rtol=1e-9, atol=0)


def test_flow_shift_equals_the_papers() -> None:
    """t' = s t / (1 + (s - 1) t) (Esser et al. 2024, eq. 23)."""
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    _, sigma = FlowSchedule(shift=3.0)(t)
    torch.testing.assert_close(sigma, 3 * t / (1 + 2 * t))


@pytest.mark.parametrize("kind", [LinearSchedule, CosineSchedule, SigmoidSchedule, ScaledLinearSchedule])
def test_zero_terminal_snr(kind: type[DiscreteSchedule]) -> None:
    """Algorithm 1 of Lin et al. 2023: no signal at T, the same first step, sqrt(abar) transformed affinely."""
    plain, scaled = kind(), kind(zero_terminal_snr=True)
    a, b = plain.alphas_cumprod[1:].sqrt(), scaled.alphas_cumprod[1:].sqrt()
    alpha, sigma = scaled(torch.ones((), dtype=torch.float64))
    assert float(alpha) == 0 and float(sigma) == 1
    assert float(b[0]) == pytest.approx(float(a[0]), rel=1e-12) and float(b[-1]) == 0
    torch.testing.assert_close(b / b[0], (a - a[-1]) / (a[0] - a[-1]))
    assert float(scaled.betas[-1]) == 1
    inside, _ = scaled(torch.tensor(0.99985, dtype=torch.float64))
    assert math.isfinite(float(inside)) and float(inside) > 0


def test_scaled_linear_is_the_table_of_latent_diffusion() -> None:
    """beta = linspace(sqrt(0.00085), sqrt(0.012))^2."""
    expected = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    torch.testing.assert_close(ScaledLinearSchedule().betas, expected, rtol=1e-9, atol=0)


def test_edm_has_the_noise_levels_of_the_paper() -> None:
    """Karras et al. 2022, eq. 5, computed here from the formula with N = 18, then 0."""
    schedule, n = EDMSchedule(), 18
    _, sigma = schedule(schedule.times(n))
    low, high = 0.002 ** (1 / 7), 80 ** (1 / 7)
    expected = [(high + i / (n - 1) * (low - high)) ** 7 for i in range(n)]
    torch.testing.assert_close(sigma, torch.tensor([*expected, 0.0], dtype=torch.float64))
    torch.testing.assert_close(
        schedule.conditioning(torch.tensor([0.5, 1.0])), torch.tensor([math.log(40) / 4, math.log(80) / 4])
    )


def test_karras_spacing_on_a_table() -> None:
    schedule = LinearSchedule()
    times = schedule.times(10, "karras")
    level = noise(schedule, times[:-1])
    root = level ** (1 / 7)
    torch.testing.assert_close(root.diff(), root.diff()[:1].expand(9), rtol=1e-6, atol=0)
    assert float(times[0]) == pytest.approx(1) and float(times[-2]) == pytest.approx(1e-3) and float(times[-1]) == 0


def test_flow_times() -> None:
    assert FlowSchedule().times(4).tolist() == pytest.approx([1, 0.75, 0.5, 0.25, 0])
    assert FlowSchedule().times(3, "linspace").tolist() == pytest.approx([1, (1 + EARLIEST) / 2, EARLIEST, 0])


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: FlowSchedule().times(10, "karras"), "spacing"),
        (lambda: LinearSchedule(zero_terminal_snr=True).times(10, "karras"), "spacing"),
        (lambda: FlowSchedule().times(10, "leading"), "spacing"),
        (lambda: FlowSchedule().times(None), "steps"),
        (lambda: EDMSchedule().times(0), "steps"),
        (lambda: EDMSchedule(sigma_min=1.0, sigma_max=0.5), "sigma_max"),
        (lambda: EDMSchedule(rho=0.0), "rho"),
        (lambda: FlowSchedule(shift=0.0), "shift"),
        (lambda: LinearSchedule(shift=-1.0), "shift"),
        (lambda: LinearSchedule(steps=1, zero_terminal_snr=True), "zero_terminal_snr"),
    ],
)
def test_values_out_of_range_are_named(make, name: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=f"^{name}: "):
        make()
