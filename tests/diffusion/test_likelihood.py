"""The bound and the ODE likelihood on mixtures whose density is known."""

import math

import pytest
import torch
from torch import Tensor

from ddpm_cli.diffusion.continuous import EDMSchedule, FlowSchedule
from ddpm_cli.diffusion.likelihood import bits, bound_term, discretized_log_normal, prior_term, variational_bound
from ddpm_cli.diffusion.ode import bits_per_dimension, log_likelihood
from ddpm_cli.diffusion.oracle import GaussianMixture, Oracle
from ddpm_cli.diffusion.schedule import CosineSchedule, LinearSchedule, Schedule
from ddpm_cli.diffusion.target import Prediction

from .test_oracle import FULL

ROUND = GaussianMixture.of([0.4, 0.6], [[-0.5, 0.3], [0.4, -0.2]], [0.15, 0.2])
LEVELS = torch.arange(256, dtype=torch.float64) / 127.5 - 1


def noise(seed: int):  # type: ignore[no-untyped-def]
    g = torch.Generator().manual_seed(seed)
    return lambda like: torch.randn(like.shape, generator=g, dtype=like.dtype)


def quantised(n: int) -> Tensor:
    """Draws on the 256 levels, as images (n,1,1,2)."""
    x = ROUND.sample(n, torch.Generator().manual_seed(5))
    return (((x + 1) * 127.5).round().clamp(0, 255) / 127.5 - 1).view(n, 1, 1, 2)


def exact_nats(x: Tensor) -> Tensor:
    """-ln of the mass of each bin under `ROUND`, by differences of normal distribution functions, per dimension."""
    flat = x.flatten(1)[:, None]
    std = ROUND.covariances.diagonal(dim1=1, dim2=2).sqrt()
    low = torch.where(flat < -0.999, -torch.inf, (flat - 1 / 255 - ROUND.means) / std)
    high = torch.where(flat > 0.999, torch.inf, (flat + 1 / 255 - ROUND.means) / std)
    mass = torch.special.ndtr(high) - torch.special.ndtr(low)
    return -(ROUND.weights.log() + mass.log().sum(2)).logsumexp(1) / 2


@pytest.mark.parametrize("schedule", [LinearSchedule(), CosineSchedule(), FlowSchedule(), EDMSchedule()], ids=str)
def test_the_ode_likelihood_is_the_density(schedule: Schedule) -> None:
    """Within 0.02 bits per dimension, image by image."""
    x = FULL.sample(200, torch.Generator().manual_seed(0)).view(-1, 1, 1, 2)
    found = log_likelihood(Oracle(FULL, schedule), schedule, x, None, earliest=1e-4, steps=40)
    away = (found - FULL.log_prob(x.flatten(1))) / (2 * math.log(2))
    assert float(away.abs().max()) < 0.02


def test_random_probes_estimate_the_same() -> None:
    schedule, n = CosineSchedule(), 2000
    x = FULL.sample(n, torch.Generator().manual_seed(0)).view(-1, 1, 1, 2)
    probes = torch.randint(0, 2, (1, *x.shape), generator=torch.Generator().manual_seed(1)).double() * 2 - 1
    found = log_likelihood(Oracle(FULL, schedule), schedule, x, probes, earliest=1e-4, steps=30)
    away = found - FULL.log_prob(x.flatten(1))
    assert float(away.std()) > 0  # it is an estimate, and an unbiased one
    assert abs(float(away.mean())) < 5 * float(away.std()) / math.sqrt(n) + 0.01


def test_bits_per_dimension_count_the_bin() -> None:
    """A density that is flat over [-1 - 1/255, 1 + 1/255] gives every one of 256 levels 8 bits."""
    flat = torch.tensor([-math.log(256 * 2 / 255)], dtype=torch.float64)
    assert float(bits_per_dimension(3 * flat, 3)) == pytest.approx(8)


@pytest.mark.parametrize(
    ("schedule", "steps"), [(LinearSchedule(), 1000), (CosineSchedule(), 300), (FlowSchedule(), 300)], ids=str
)
@pytest.mark.parametrize("variance", ["beta", "beta_tilde"])
def test_the_bound_is_one(schedule: Schedule, steps: int, variance) -> None:  # type: ignore[no-untyped-def]
    """Never below the exact negative log-likelihood of the discretised mixture, beyond the error of the mean."""
    x0 = quantised(1000)
    bound = variational_bound(Oracle(ROUND, schedule), schedule, x0, noise(1), schedule.times(steps), variance)
    gap = bits(bound.total - exact_nats(x0))
    assert float(gap.mean()) > -4 * float(gap.std()) / math.sqrt(len(x0))
    if variance == "beta" and not isinstance(schedule, FlowSchedule):
        assert float(gap.mean()) < 0.15  # and not far above it: components are wide next to the steps
    assert bound.decoder is not None and bound.terms.shape == (1000, steps)


def test_some_of_the_terms_estimate_all() -> None:
    schedule, x0 = LinearSchedule(steps=50), quantised(20)
    times = schedule.times(50)

    def total(chosen: Tensor | None, seed: int) -> float:
        return float(
            variational_bound(Oracle(ROUND, schedule), schedule, x0, noise(seed), times, chosen=chosen).total.mean()
        )

    whole = sum(total(None, s) for s in range(20)) / 20
    few = torch.tensor(
        [total(torch.randint(50, (5,), generator=torch.Generator().manual_seed(s)), s) for s in range(300)]
    )
    assert abs(float(few.mean()) - whole) < 5 * float(few.std()) / math.sqrt(300)


def test_the_last_term_is_the_closed_form() -> None:
    """KL(N(a x0, s^2) || N(0, 1)) = (a^2 x0^2 + s^2 - 1 - ln s^2) / 2, and to N(0, s^2) where noise explodes."""
    x0 = quantised(5)
    alpha, sigma = LinearSchedule()(torch.ones((), dtype=torch.float64))
    expected = torch.distributions.kl_divergence(
        torch.distributions.Normal(alpha * x0, sigma.expand_as(x0)), torch.distributions.Normal(0.0, 1.0)
    )
    one = torch.ones((), dtype=torch.float64)
    torch.testing.assert_close(prior_term(LinearSchedule(), x0, one), expected.flatten(1).mean(1))
    torch.testing.assert_close(prior_term(EDMSchedule(), x0, one), (x0 / 80).square().flatten(1).mean(1) / 2)


def test_a_term_is_the_divergence_by_simulation() -> None:
    """E_q[ln q(x_s | x_t, x0) - ln p(x_s | x_t)], with the two normals written out."""
    schedule, n = LinearSchedule(), 400_000
    t, s = torch.tensor([0.5], dtype=torch.float64), torch.tensor([0.499], dtype=torch.float64)
    (a_t, s_t), (a_s, s_s) = schedule(t), schedule(s)
    x0, guess = torch.full((1, 1, 1, 1), 0.3, dtype=torch.float64), torch.full((1, 1, 1, 1), -0.1, dtype=torch.float64)
    x_t = a_t * x0 + 0.7 * s_t
    beta = 1 - (a_t / a_s) ** 2
    tilde = beta * s_s**2 / s_t**2
    q, p = (
        torch.distributions.Normal((a_t / a_s * s_s**2 * x_t + a_s * beta * v).flatten() / s_t**2, variance.sqrt())
        for v, variance in ((x0, tilde), (guess, beta))
    )
    torch.manual_seed(0)
    draws = q.sample((n,))
    log_ratio = q.log_prob(draws) - p.log_prob(draws)
    term = bound_term(Prediction(guess, guess), x_t, x0, t, s, schedule, "beta")
    assert float(term) == pytest.approx(float(log_ratio.mean()), abs=5 * float(log_ratio.std()) / math.sqrt(n))


@pytest.mark.parametrize(("share", "same"), [(0.0, "beta_tilde"), (1.0, "beta")])
def test_a_learned_variance_lies_between_its_bounds(share: float, same) -> None:  # type: ignore[no-untyped-def]
    schedule, x0 = CosineSchedule(), quantised(4)
    t, s = (torch.full((4,), v, dtype=torch.float64) for v in (0.3, 0.299))
    plain = Prediction(0.9 * x0, x0)
    learned = plain._replace(share=torch.full_like(x0, share))
    torch.testing.assert_close(
        bound_term(learned, x0, x0, t, s, schedule, "learned"), bound_term(plain, x0, x0, t, s, schedule, same)
    )


@pytest.mark.parametrize(("mean", "std"), [(0.0, 0.3), (0.99, 0.002), (-2.0, 0.5), (0.1, 5.0)])
def test_the_mass_of_all_levels_is_one(mean: float, std: float) -> None:
    full = torch.full_like(LEVELS, 1.0)
    mass = discretized_log_normal(LEVELS, mean * full, math.log(std) * full).exp()
    assert float(mass.sum()) == pytest.approx(1, abs=1e-9)
