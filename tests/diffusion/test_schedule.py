"""The table of the paper, and the properties of every schedule."""

import numpy as np
import pytest
import torch

from ddpm_cli.diffusion.schedule import CosineSchedule, LinearSchedule, SigmoidSchedule

SCHEDULES = [LinearSchedule(), CosineSchedule(), SigmoidSchedule(), LinearSchedule(steps=10), CosineSchedule(steps=37)]


def test_the_beta_table_of_the_paper() -> None:
    schedule = LinearSchedule()
    betas = np.linspace(1e-4, 0.02, 1000)  # "T = 1000, forward process variances linear from 1e-4 to 0.02"
    np.testing.assert_allclose(schedule.betas.numpy(), betas, rtol=1e-12)
    cumulative = np.cumprod(1 - betas)
    k = torch.arange(1, 1001, dtype=torch.float64)
    alpha, sigma = schedule(k / 1000)
    np.testing.assert_allclose(alpha.numpy() ** 2, cumulative, rtol=1e-10)
    np.testing.assert_allclose(sigma.numpy() ** 2, 1 - cumulative, rtol=1e-10)
    # almost no signal is left at T, as the paper's L_T requires
    assert cumulative[-1] == pytest.approx(4.0358e-5, rel=1e-4)


def test_cosine_follows_its_equation() -> None:
    schedule = CosineSchedule()
    t = np.arange(1, 900) / 1000  # the clip of beta at 0.999 only matters beyond 0.9
    f = np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
    expected = f / np.cos(0.008 / 1.008 * np.pi / 2) ** 2
    alpha, _ = schedule(torch.tensor(t))
    np.testing.assert_allclose(alpha.numpy() ** 2, expected, rtol=1e-8)
    assert float(schedule.betas.max()) == 0.999


def test_sigmoid_follows_its_equation() -> None:
    def sigmoid(x: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-x))

    t = np.arange(1, 900) / 1000
    expected = (sigmoid(np.array(3.0)) - sigmoid(6 * t - 3)) / (sigmoid(np.array(3.0)) - sigmoid(np.array(-3.0)))
    alpha, _ = SigmoidSchedule()(torch.tensor(t))
    np.testing.assert_allclose(alpha.numpy() ** 2, expected, rtol=1e-8)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_snr_decreases_and_variance_is_preserved(schedule: LinearSchedule) -> None:
    t = torch.linspace(1e-6, 1, 5000, dtype=torch.float64)
    alpha, sigma = schedule(t)
    assert torch.allclose(alpha**2 + sigma**2, torch.ones_like(t), atol=1e-12)
    snr = torch.log(alpha) - torch.log(sigma)
    assert bool((snr.diff() < 0).all())


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_time_zero_is_the_clean_image(schedule: LinearSchedule) -> None:
    alpha, sigma = schedule(torch.zeros(()))
    assert float(alpha) == 1 and float(sigma) == 0


def test_float32_agrees_with_float64_near_zero_noise() -> None:
    schedule = CosineSchedule()
    t = torch.arange(1, 1001, dtype=torch.float64) / 1000
    (_, exact), (_, single) = schedule(t), schedule(t.float())
    assert float(((single.double() - exact) / exact).abs().max()) < 1e-5


def test_training_times_are_the_table() -> None:
    schedule = LinearSchedule(steps=10)
    u = torch.arange(0, 1, 0.001)
    times = schedule.training_time(u)
    values, counts = times.unique(return_counts=True)
    assert torch.allclose(values, torch.arange(1, 11) / 10)
    assert counts.tolist() == [100] * 10
    assert torch.allclose(schedule.conditioning(values), torch.arange(10.0), atol=1e-5)


@pytest.mark.parametrize(
    ("spacing", "steps", "expected"),
    [
        ("trailing", 10, [1000, 900, 800, 700, 600, 500, 400, 300, 200, 100, 0]),
        ("leading", 10, [901, 801, 701, 601, 501, 401, 301, 201, 101, 1, 0]),
        ("linspace", 4, [1000, 667, 334, 1, 0]),
        ("quadratic", 3, [801, 201, 1, 0]),
    ],
)
def test_spacings(spacing: str, steps: int, expected: list[int]) -> None:
    times = LinearSchedule().times(steps, spacing)  # type: ignore[arg-type]
    assert (times * 1000).round().tolist() == expected


@pytest.mark.parametrize("spacing", ["trailing", "leading", "linspace"])
def test_all_steps_visit_every_time(spacing: str) -> None:
    times = LinearSchedule().times(None, spacing)  # type: ignore[arg-type]
    assert (times * 1000).round().tolist() == list(range(1000, -1, -1))


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: LinearSchedule(steps=0), "steps"),
        (lambda: LinearSchedule(beta_start=0.1, beta_end=0.01), "beta_end"),
        (lambda: CosineSchedule(max_beta=1.0), "max_beta"),
        (lambda: SigmoidSchedule(tau=0.0), "tau"),
        (lambda: LinearSchedule().times(1001), "steps"),
        (lambda: LinearSchedule().times(5, "log"), "spacing"),  # type: ignore[arg-type]
    ],
)
def test_values_out_of_range_are_named(make, name: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=f"^{name}: "):
        make()
