"""Every sampler on an exact mixture: errors decrease with the sampler's order, random samplers have exact moments."""

import math
from functools import cache

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from ddpm_cli.diffusion.continuous import EDMSchedule
from ddpm_cli.diffusion.generate import run_sampler, start
from ddpm_cli.diffusion.oracle import GaussianMixture, Oracle
from ddpm_cli.diffusion.samplers import DDIM, DDPM, DPMpp2M, DPMpp2MSDE, Euler, Heun, Sampler, UniPC
from ddpm_cli.diffusion.schedule import CosineSchedule, LinearSchedule, Schedule

from .test_oracle import FULL

STEPS = (40, 80, 160, 320)
EXPLODING = EDMSchedule(sigma_min=0.002, sigma_max=10.0)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def noise(seed: int = 1):  # type: ignore[no-untyped-def]
    g = torch.Generator().manual_seed(seed)
    return lambda like: torch.randn(like.shape, generator=g, dtype=like.dtype)


def final(sampler: Sampler, schedule: Schedule, x: Tensor, mixture: GaussianMixture = FULL) -> Tensor:
    return list(run_sampler(Oracle(mixture, schedule), schedule, sampler, start(schedule, x), noise()))[-1].x


@cache
def exact() -> Tensor:
    """dx / dsigma = eps from sigma_max to 0 (Karras et al. 2022, eq. 1), to eleven digits, solved by scipy."""
    x = EXPLODING.sigma_max * normal(100, 2).numpy()

    def slope(sigma: float, flat: np.ndarray) -> np.ndarray:
        return (-sigma * FULL.score(torch.tensor(flat).view(-1, 2), 1.0, sigma)).flatten().numpy()

    solution = solve_ivp(slope, (EXPLODING.sigma_max, 0.0), x.flatten(), method="DOP853", rtol=1e-11, atol=1e-12)
    return torch.tensor(solution.y[:, -1]).view(-1, 2)


def moments(x: Tensor) -> Tensor:
    """Mean and covariance in one vector."""
    return torch.cat([x.mean(0), x.T.cov().flatten()])


def errors(sampler_of, measure, steps=STEPS) -> list[float]:  # type: ignore[no-untyped-def]
    return [float(measure(final(sampler_of(n), EXPLODING, normal(100, 2)))) for n in steps]


def order(deviations: list[float], steps: tuple[int, ...] = STEPS) -> float:
    """Minus the slope of ln error over ln steps."""
    return -float(np.polyfit(np.log(steps), np.log(deviations), 1)[0])


ORDERS = [
    (lambda n: Euler(steps=n, clip=False), 1),
    (lambda n: DDIM(steps=n, clip=False), 1),
    (lambda n: Heun(steps=n, clip=False), 2),
    (lambda n: DPMpp2M(steps=n, clip=False), 2),
]


@pytest.mark.parametrize(("sampler_of", "expected"), ORDERS, ids=["euler", "ddim", "heun", "dpmpp_2m"])
def test_the_error_falls_at_the_order(sampler_of, expected: int) -> None:  # type: ignore[no-untyped-def]
    """The error of the moments and of the single trajectories, from the same starting points; nothing is random."""
    of_moments = order(errors(sampler_of, lambda x: (moments(x) - moments(exact())).norm()))
    of_points = order(errors(sampler_of, lambda x: (x - exact()).square().mean().sqrt()))
    assert of_moments == pytest.approx(expected, rel=0.15)
    assert of_points == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize(("order_of", "least"), [(1, 1.7), (2, 1.7), (3, 1.7)])
def test_unipc_is_of_second_order_at_least(order_of: int, least: float) -> None:
    """A predictor of order 1 with its corrector is of order 2 (Zhao et al. 2023, theorem 3.1)."""
    steps = (20, 40, 80)  # with more steps, the first-order last step from sigma_min dominates the error

    def deviation(x: Tensor) -> Tensor:
        return (x - exact()).square().mean().sqrt()

    deviations = errors(lambda n: UniPC(steps=n, order=order_of, clip=False), deviation, steps)
    assert order(deviations, steps) > least


RANDOM = [
    (DDPM(steps=300, variance="beta_tilde", clip=False), LinearSchedule()),
    (DDPM(steps=400, variance="beta", clip=False), CosineSchedule()),
    (DDIM(steps=300, eta=1.0, clip=False), CosineSchedule()),
    (DPMpp2MSDE(steps=100, clip=False), LinearSchedule()),
    (DPMpp2MSDE(steps=100, clip=False), EXPLODING),
    (Euler(steps=300, s_churn=30, clip=False), EXPLODING),
    (Heun(steps=60, s_churn=20, clip=False), EXPLODING),
    (Heun(steps=60, s_churn=20, s_tmin=0.05, s_tmax=5.0, clip=False), LinearSchedule()),
]


@pytest.mark.parametrize(("sampler", "schedule"), RANDOM, ids=lambda v: f"{type(v).__name__}")
def test_random_samplers_have_the_mean_and_the_covariance(sampler: Sampler, schedule: Schedule) -> None:
    """Within five standard errors of 10,000 samples plus a discretisation error of 2 %."""
    n = 10_000
    x = final(sampler, schedule, normal(n, 2, seed=3))
    deviation = FULL.covariance.diagonal().sqrt()
    assert bool(((x.mean(0) - FULL.mean).abs() < 5 * deviation / math.sqrt(n) + 0.02 * deviation).all())
    scale = torch.outer(deviation, deviation)
    assert bool(((x.T.cov() - FULL.covariance).abs() < (5 * math.sqrt(2 / n) + 0.02) * scale).all())


class Exploding:
    """A variance-preserving schedule in the coordinates x / alpha."""

    variance_preserving = False

    def __init__(self, inner: LinearSchedule):
        self.inner = inner

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma = self.inner(t)
        return torch.ones_like(alpha), sigma / alpha

    def __getattr__(self, name: str):  # type: ignore[no-untyped-def]
        return getattr(self.inner, name)


@pytest.mark.parametrize(
    "sampler",
    [
        DDIM(steps=20, clip=True), DDIM(steps=20, eta=0.7, clip=False), DDPM(steps=50, variance="beta_tilde"),
        Euler(steps=20, s_churn=4), Heun(steps=10), DPMpp2M(steps=10), DPMpp2MSDE(steps=10), UniPC(steps=10, order=3),
    ],
    ids=lambda s: type(s).__name__,
)  # fmt: skip
def test_a_schedule_rescaled_to_variance_exploding_gives_the_same_samples(sampler: Sampler) -> None:
    """With the same noise and the same predictions, x / alpha follows the same trajectory."""
    preserving = LinearSchedule()
    exploding: Schedule = Exploding(preserving)  # type: ignore[assignment]
    alpha, _ = preserving(torch.ones((), dtype=torch.float64))
    x = normal(50, 2)
    one = list(run_sampler(Oracle(FULL, preserving), preserving, sampler, x, noise()))
    two = list(run_sampler(Oracle(FULL, exploding), exploding, sampler, x / alpha, noise()))
    for a, b in zip(one, two, strict=True):
        alpha_t, _ = preserving(torch.tensor(a.t, dtype=torch.float64))
        torch.testing.assert_close(a.x / alpha_t, b.x, rtol=1e-7, atol=1e-8)
