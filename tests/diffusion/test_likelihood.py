"""The variational bound and the ODE likelihood, compared with the exact probability of a Gaussian mixture."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from ddpm_cli.diffusion import ode
from ddpm_cli.diffusion.continuous import EDMSchedule, FlowSchedule
from ddpm_cli.diffusion.likelihood import Bound, bound_term, discretized_log_normal, in_bits, variational_bound
from ddpm_cli.diffusion.noise import ImageNoise
from ddpm_cli.diffusion.oracle import GaussianMixture, Oracle
from ddpm_cli.diffusion.posterior import Variance, posterior
from ddpm_cli.diffusion.schedule import CosineSchedule, LinearSchedule, Schedule
from ddpm_cli.diffusion.target import Prediction

MIXTURE = GaussianMixture.of(
    [0.5, 0.3, 0.2], [[0.5, 0.2, -0.3, 0.1], [-0.4, 0.3, 0.2, -0.2], [0, -0.6, 0.5, 0.6]], [0.1, 0.2, 0.15]
)
SCHEDULES: dict[str, Schedule] = {
    "linear": LinearSchedule(),
    "cosine": CosineSchedule(),
    "no signal left": CosineSchedule(zero_terminal_snr=True),
    "edm": EDMSchedule(),
    "flow": FlowSchedule(),
}
LEVELS = torch.arange(256, dtype=torch.float64) / 127.5 - 1


def random(seed: int = 0) -> Callable[[Tensor], Tensor]:
    g = torch.Generator().manual_seed(seed)
    return lambda like: torch.randn(like.shape, generator=g, dtype=like.dtype)


def drawn(n: int, quantised: bool = False) -> Tensor:
    x = MIXTURE.sample(n, torch.Generator().manual_seed(1))
    return ((x.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1 if quantised else x


def exact_nll(x: Tensor) -> Tensor:
    """-ln p of the quantised mixture, nats per dimension; bins end at the midpoints between the 256 levels."""
    std = MIXTURE.covariances.diagonal(dim1=1, dim2=2).sqrt()
    edges = torch.cat([torch.tensor([-torch.inf]), (LEVELS[1:] + LEVELS[:-1]) / 2, torch.tensor([torch.inf])])
    level = ((x + 1) * 127.5).round().long()
    normal = torch.distributions.Normal(MIXTURE.means, std)
    mass = normal.cdf(edges[level + 1][:, None]) - normal.cdf(edges[level][:, None])
    return -(MIXTURE.weights.log() + mass.log().sum(2)).logsumexp(1) / x.shape[1]


@dataclass
class LearnedVariance:
    """An oracle with a constant variance fraction."""

    oracle: Oracle
    variance_fraction: float

    def __call__(self, x_t: Tensor, t: Tensor) -> Prediction:
        return self.oracle(x_t, t)._replace(variance_fraction=torch.full_like(x_t, self.variance_fraction))


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_ode_gives_the_exact_likelihood(name: str) -> None:
    x = drawn(32)
    result = ode.log_likelihood(Oracle(MIXTURE, SCHEDULES[name]), SCHEDULES[name], x)
    assert in_bits((result - MIXTURE.log_prob(x)) / 4).abs().max() < 0.02


@pytest.mark.parametrize("name", ["no signal left", "flow"])
def test_the_ode_converges_with_a_small_first_noise_level(name: str) -> None:
    x, schedule = drawn(16), SCHEDULES[name]
    error = [
        (ode.log_likelihood(Oracle(MIXTURE, schedule), schedule, x, steps=n, earliest=1e-7) - MIXTURE.log_prob(x)).abs()
        for n in (20, 40)
    ]
    assert error[1].max() < 0.02 and error[1].max() < error[0].max() / 4


def test_the_ode_with_correlated_dimensions_and_an_image_shape() -> None:
    covariance = torch.tensor([[[0.04, 0.03], [0.03, 0.05]]], dtype=torch.float64)
    mixture = GaussianMixture(torch.ones(1, dtype=torch.float64), torch.tensor([[0.3, -0.2]]).double(), covariance)
    x = mixture.sample(8, torch.Generator().manual_seed(0))
    result = ode.log_likelihood(Oracle(mixture, SCHEDULES["cosine"]), SCHEDULES["cosine"], x.view(8, 1, 1, 2))
    assert in_bits((result - mixture.log_prob(x)) / 2).abs().max() < 0.01


def test_random_signs_estimate_the_divergence_without_bias() -> None:
    x, schedule = drawn(1).expand(200, -1).contiguous(), SCHEDULES["cosine"]
    oracle = Oracle(MIXTURE, schedule)
    exact = ode.log_likelihood(oracle, schedule, x[:1], steps=10)
    one = ode.log_likelihood(oracle, schedule, x, steps=10, probes=1, noise=random())
    two = ode.log_likelihood(oracle, schedule, x, steps=10, probes=2, noise=random(1))
    assert one.std() > 0.01 and two.std() < one.std()
    assert (one.mean() - exact).abs() < 4 * one.std() / math.sqrt(200)


def test_many_dimensions_use_one_probe_which_is_exact_for_an_isotropic_density() -> None:
    """The divergence of an isotropic density is the same in every direction."""
    d, schedule = 80, SCHEDULES["linear"]
    mixture = GaussianMixture.of([1.0], [[0.1] * d], [0.3])
    x = mixture.sample(4, torch.Generator().manual_seed(0))
    result = ode.log_likelihood(Oracle(mixture, schedule), schedule, x, noise=random())
    assert in_bits((result - mixture.log_prob(x)) / d).abs().max() < 0.005
    with pytest.raises(ValueError, match="noise: must be given to draw probes"):
        ode.log_likelihood(Oracle(mixture, schedule), schedule, x)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps:"),
        ({"earliest": 0.0}, "earliest:"),
        ({"earliest": 1.0}, "earliest:"),
        ({"probes": -1}, "p"),
    ],
)
def test_ode_options_out_of_range(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ode.log_likelihood(Oracle(MIXTURE, FlowSchedule()), FlowSchedule(), drawn(1), **options)


def test_dequantised_bits_equal_those_of_the_quantised_density() -> None:
    """The exact density at random points of each bin gives the bits of the bin's mass."""
    x = drawn(2000, quantised=True)
    inside = (x.abs() < 1).all(1)  # the outermost bins are open
    pixels = ((x[inside] + 1) * 127.5).round()
    y = ode.dequantized(pixels, torch.rand(pixels.shape, generator=torch.Generator().manual_seed(0)).double())
    result = ode.bits_per_dimension(MIXTURE.log_prob(y), 4)
    assert abs(float((result - in_bits(exact_nll(x[inside]))).mean())) < 0.002
    assert ode.dequantized(torch.tensor([0, 255]), torch.tensor([0.5, 0.5])).tolist() == [-1, 1]


@pytest.mark.parametrize("name", ["linear", "cosine", "edm", "flow"])
def test_the_bound_is_above_the_exact_likelihood(name: str) -> None:
    schedule, x = SCHEDULES[name], drawn(256, quantised=True)
    bound = variational_bound(Oracle(MIXTURE, schedule), schedule, x, random(), schedule.times(100))
    gap = in_bits(bound.total - exact_nll(x))
    assert gap.mean() > -3 * gap.std() / 16
    assert gap.mean() < 1.2
    assert (bound.terms > -1e-9).all() and bound.terms.shape == (256, 100)


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_the_bound_is_close_with_many_steps(name: str) -> None:
    schedule, x = SCHEDULES[name], drawn(512, quantised=True)
    bound = variational_bound(Oracle(MIXTURE, schedule), schedule, x, random(), schedule.times(400))
    gap = in_bits(bound.total - exact_nll(x))
    assert -0.1 < gap.mean() < 0.15


@pytest.mark.parametrize("name", ["linear", "edm", "flow"])
def test_the_prior_term_in_closed_form(name: str) -> None:
    schedule, x = SCHEDULES[name], drawn(8, quantised=True)
    times = torch.tensor([0.6, 0.3, 0.0], dtype=torch.float64)  # samplers draw from N(0, max(1, sigma_1)^2) at 0.6
    bound = variational_bound(Oracle(MIXTURE, schedule), schedule, x, random(), times)
    alpha, sigma = schedule(torch.tensor(0.6, dtype=torch.float64))
    q = torch.distributions.Normal(alpha * x, sigma.expand_as(x))
    p = torch.distributions.Normal(torch.zeros_like(x), 80.0 if name == "edm" else 1.0)
    expected = torch.distributions.kl_divergence(q, p).mean(1)
    assert torch.allclose(bound.prior, expected, rtol=1e-5, atol=1e-7) and (expected > 1e-3).all()


@pytest.mark.parametrize("variance", ["beta", "beta_tilde"])
def test_a_term_is_the_kl_divergence_of_two_normals(variance: Variance) -> None:
    """Compared with samples of q(x_s | x_t, x0), and with torch's closed form."""
    schedule, x0 = LinearSchedule(), torch.tensor([[0.5, -0.25]], dtype=torch.float64)
    t, s = torch.tensor([0.3], dtype=torch.float64), torch.tensor([0.2], dtype=torch.float64)
    q = posterior(*schedule(t), *schedule(s))
    x_t, guess = torch.tensor([[0.4, 0.7]], dtype=torch.float64), torch.tensor([[0.1, -0.1]], dtype=torch.float64)
    true = torch.distributions.Normal(q.of_x_t * x_t + q.of_x0 * x0, q.beta_tilde.sqrt())
    model = torch.distributions.Normal(q.of_x_t * x_t + q.of_x0 * guess, getattr(q, variance).sqrt())
    result = bound_term(Prediction(guess, guess), x_t, x0, t, s, schedule, variance)
    torch.manual_seed(0)
    draws = true.sample((200_000,))
    ratio = (true.log_prob(draws) - model.log_prob(draws)).mean(2)
    assert (result - ratio.mean()).abs() < 4 * ratio.std() / math.sqrt(200_000)
    assert torch.allclose(result, torch.distributions.kl_divergence(true, model).mean(1), rtol=1e-9)


def test_the_terms_of_the_bound_equal_those_of_training() -> None:
    schedule, x0 = CosineSchedule(steps=8), drawn(5, quantised=True)
    oracle = Oracle(MIXTURE, schedule)
    times = schedule.times(8)
    bound = variational_bound(oracle, schedule, x0, random(3), times)
    noise = random(3)
    for i in range(8):
        t, s = times[i].expand(5), times[i + 1].expand(5)
        alpha, sigma = schedule(times[i])
        x_t = alpha * x0 + sigma * noise(x0)
        expected = bound_term(oracle(x_t, t), x_t, x0, t, s, schedule, "beta")
        assert torch.allclose(bound.terms[:, i], expected, rtol=1e-9)


def test_learned_variance_at_its_bounds() -> None:
    schedule, x = CosineSchedule(steps=50), drawn(16, quantised=True)
    oracle, times = Oracle(MIXTURE, schedule), schedule.times(50)

    def total(variance_fraction: float | None, variance: Variance) -> Tensor:
        denoise = oracle if variance_fraction is None else LearnedVariance(oracle, variance_fraction)
        return variational_bound(denoise, schedule, x, random(), times, variance).total

    assert torch.allclose(total(1.0, "learned"), total(None, "beta"), rtol=1e-9)
    assert torch.allclose(total(0.0, "learned"), total(None, "beta_tilde"), rtol=1e-9)
    assert not torch.allclose(total(1.0, "learned"), total(0.0, "learned"), rtol=1e-2)
    with pytest.raises(ValueError, match="variance: learned needs"):
        total(None, "learned")


@pytest.mark.parametrize("name", ["cosine", "edm"])
def test_a_subset_of_the_terms_estimates_the_bound_without_bias(name: str) -> None:
    schedule, n = SCHEDULES[name], 4000
    x, times = drawn(1, quantised=True).expand(n, -1).contiguous(), SCHEDULES[name].times(40)
    oracle = Oracle(MIXTURE, schedule)
    whole = variational_bound(oracle, schedule, x, random(), times)
    subset = variational_bound(oracle, schedule, x, random(1), times, terms=7)
    assert subset.terms.shape == (n, 7) and (subset.index[:, -1] == 39).all()
    error = (subset.total.var() / n + whole.total.var() / n).sqrt()
    assert (subset.total.mean() - whole.total.mean()).abs() < 4 * error
    counts = torch.bincount(subset.index.flatten(), minlength=40)[:-1]
    expected = n * 6 / 39
    assert (counts - expected).abs().max() < 5 * math.sqrt(expected)  # all terms are equally probable


def test_evaluated_terms_are_extrapolated_to_all_terms() -> None:
    terms = torch.tensor([[1.0, 2.0, 5.0]])
    bound = Bound(torch.tensor([0.5]), terms, torch.tensor([[0, 4, 9]]), 10)
    assert (float(bound.denoising), float(bound.reconstruction), float(bound.total)) == (13.5, 5.0, 19.0)


def test_an_image_gets_its_own_noise_in_any_batch() -> None:
    schedule, x = SCHEDULES["linear"], drawn(6, quantised=True)
    oracle, times = Oracle(MIXTURE, schedule), SCHEDULES["linear"].times(20)
    whole = variational_bound(oracle, schedule, x, ImageNoise(range(6)), times, terms=5).total
    rest = variational_bound(oracle, schedule, x[4:], ImageNoise(range(4, 6)), times, terms=5).total
    assert torch.allclose(whole[4:], rest, rtol=1e-9)


@pytest.mark.parametrize(
    ("times", "terms", "message"),
    [([1.0, 0.5], None, "times:"), ([0.5, 1.0, 0.0], None, "times:"), ([1.0, 0.5, 0.2, 0.0], 1, "terms:"),
     ([1.0, 0.5, 0.2, 0.0], 4, "terms:"), ([0.0], None, "times:")],
)  # fmt: skip
def test_wrong_times_and_numbers_of_terms_are_named(times: list[float], terms: int | None, message: str) -> None:
    oracle = Oracle(MIXTURE, SCHEDULES["linear"])
    with pytest.raises(ValueError, match=message):
        variational_bound(oracle, SCHEDULES["linear"], drawn(2), random(), torch.tensor(times), terms=terms)


@pytest.mark.parametrize("std", [1e-3, 0.02, 0.7, 5.0])
@pytest.mark.parametrize("mean", [-1.5, -1.0, 0.013, 0.9, 2.0])
def test_the_masses_of_the_bins_sum_to_one(mean: float, std: float) -> None:
    result = discretized_log_normal(LEVELS, torch.full_like(LEVELS, mean), torch.full_like(LEVELS, math.log(std)))
    assert abs(float(result.logsumexp(0))) < 1e-6 and result.isfinite().all()
    inside = slice(1, 255)
    normal = torch.distributions.Normal(torch.tensor(mean, dtype=torch.float64), std)
    mass = normal.cdf(LEVELS + 1 / 255) - normal.cdf(LEVELS - 1 / 255)
    assert torch.allclose(result.exp()[inside], mass[inside], rtol=1e-6, atol=1e-9)


def test_mass_and_gradient_are_exact_far_from_the_mean() -> None:
    """Compared with the integral of the density 30 standard deviations away, where erfc underflows."""
    x, mean = torch.tensor([0.2], dtype=torch.float64), torch.tensor([-0.4], dtype=torch.float64, requires_grad=True)
    log_std = torch.tensor([math.log(0.01)], dtype=torch.float64, requires_grad=True)
    result = discretized_log_normal(x, mean, log_std)
    grid = 0.2 + (torch.arange(20_000, dtype=torch.float64) + 0.5) / 10_000 / 255 - 1 / 255
    density = torch.distributions.Normal(-0.4, 0.01).log_prob(grid)
    expected = (density + math.log(1 / 10_000 / 255)).logsumexp(0)
    assert abs(float(result.detach() - expected)) < 1e-4 and float(expected) < -1500
    slopes = torch.autograd.grad(result.sum(), [mean, log_std])
    assert all(g.isfinite().all() and g > 0 for g in slopes)
    single = discretized_log_normal(x.float(), mean.float(), log_std.float())
    assert float((single - result).detach().abs()) < 0.05
