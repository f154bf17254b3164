"""Densities of pixels, compared with numerical integration."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import ContinuousBernoulli, Normal

from ddpm_cli.diffusion.ode import bits_per_dimension, dequantized
from ddpm_cli.objectives.likelihoods import Bernoulli, Gaussian, log_integral

LOGITS = [-80.0, -9.0, -1.0, -0.021, -0.019, -1e-3, 0.0, 1e-6, 0.0199, 0.0201, 0.5, 3.0, 40.0]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def middle(n: int, low: float = 0.0, high: float = 1.0) -> tuple[Tensor, float]:
    """The midpoints of n equal parts of [low, high], and their width."""
    width = (high - low) / n
    return low + (torch.arange(n, dtype=torch.float64) + 0.5) * width, width


@pytest.mark.parametrize("logit", LOGITS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_normaliser_equals_the_integral(logit: float, dtype: torch.dtype) -> None:
    v, width = middle(400_000)
    exact = math.log(float((logit * (v - 1 if logit > 0 else v)).exp().sum()) * width) + max(logit, 0)
    got = float(log_integral(torch.tensor(logit, dtype=dtype)))
    assert got == pytest.approx(exact, rel=1e-6, abs=1e-7 if dtype == torch.float64 else 1e-6)


def test_the_gradient_of_the_normaliser_is_the_mean() -> None:
    logit = torch.tensor(LOGITS, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(log_integral(logit).sum(), logit)
    mean = (Bernoulli(normalized=True).mean(logit.detach()) + 1) / 2
    assert bool(gradient.isfinite().all()) and mean.allclose(gradient, atol=1e-5)
    assert ((Bernoulli().mean(logit.detach()) + 1) / 2).allclose(logit.detach().sigmoid())


def test_the_density_equals_torchs() -> None:
    out = torch.linspace(-6, 6, 24, dtype=torch.float64).view(2, 3, 2, 2)
    v = torch.rand(2, 3, 2, 2, dtype=torch.float64)
    expected = ContinuousBernoulli(logits=out).log_prob(v).flatten(1).sum(1)
    assert Bernoulli(normalized=True).nats(out, 2 * v - 1).allclose(expected, atol=1e-4)
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(out, v, reduction="none")
    assert Bernoulli().nats(out, 2 * v - 1).allclose(-entropy.flatten(1).sum(1))


@pytest.mark.parametrize("likelihood", [Bernoulli(), Gaussian(0.02)])
def test_the_probabilities_of_the_256_levels_sum_to_one(likelihood: Bernoulli | Gaussian) -> None:
    """The sum of 2^-bits over all 256 levels, each dequantised over its bin, is the integral of the density, 1."""
    out = torch.tensor(0.7, dtype=torch.float64)
    u, _ = middle(50)
    pixels = torch.arange(256, dtype=torch.uint8)
    x = dequantized(pixels[:, None].expand(256, 50), u.expand(256, 50)).reshape(-1, 1, 1, 1)
    bits = bits_per_dimension(likelihood.log_density(out.expand_as(x), x), 1)
    total = float((-bits * math.log(2)).exp().view(256, 50).mean(1).sum())
    assert total == pytest.approx(1, abs=1e-4)


def test_samples_have_the_right_mean_and_range() -> None:
    u, _ = middle(20_000)
    u = u.view(-1, 1, 1, 1)
    for logit in (-4.0, 0.0, 0.3, 6.0):
        out = torch.full_like(u, logit)
        x = Bernoulli().draw(out, u)
        assert float(x.mean()) == pytest.approx(float(Bernoulli(normalized=True).mean(out[0])), abs=1e-4)
        assert bool((x.flatten().diff() >= 0).all()) and float(x.abs().max()) <= 1
    assert float(Gaussian(0.25).draw(torch.zeros_like(u), u).std()) == pytest.approx(0.5, abs=1e-3)


def test_the_gaussian_equals_torchs() -> None:
    out, x = torch.randn(3, 1, 4, 4), torch.rand(3, 1, 4, 4) * 2 - 1
    for variance in (0.3, torch.tensor(0.3)):
        expected = Normal(2 * out.sigmoid() - 1, math.sqrt(0.3)).log_prob(x).flatten(1).sum(1)
        assert Gaussian(variance).nats(out, x).allclose(expected, atol=1e-4)
