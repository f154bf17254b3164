"""The exact mixture, compared with integration, simulation and scikit-learn."""

import math

import pytest
import torch
from sklearn.mixture import GaussianMixture as FittedMixture

from ddpm_cli.diffusion.continuous import EDMSchedule, FlowSchedule
from ddpm_cli.diffusion.oracle import GaussianMixture, Oracle
from ddpm_cli.diffusion.schedule import LinearSchedule, Schedule

FULL = GaussianMixture(
    torch.tensor([0.3, 0.7], dtype=torch.float64),
    torch.tensor([[-1.0, 0.5], [0.6, -0.4]], dtype=torch.float64),
    torch.tensor([[[0.09, 0.05], [0.05, 0.2]], [[0.25, -0.1], [-0.1, 0.1]]], dtype=torch.float64),
)
LINE = GaussianMixture.of([0.2, 0.5, 0.3], [[-1.0], [0.1], [0.9]], [0.1, 0.3, 0.05])


def points(n: int, d: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_the_density_integrates_to_one() -> None:
    x = torch.linspace(-6, 6, 200_001, dtype=torch.float64)[:, None]
    for alpha, sigma in ((1.0, 0.0), (0.6, 0.8)):
        mass = torch.trapezoid(LINE.log_prob(x, alpha, sigma).exp(), x[:, 0])
        assert float(mass) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("alpha", "sigma"), [(1.0, 0.0), (0.8, 0.6), (1.0, 3.0)])
def test_the_score_is_the_gradient_of_the_density(alpha: float, sigma: float) -> None:
    x = points(50, 2).requires_grad_()
    (gradient,) = torch.autograd.grad(FULL.log_prob(x, alpha, sigma).sum(), x)
    torch.testing.assert_close(FULL.score(x.detach(), alpha, sigma), gradient)


@pytest.mark.parametrize("schedule", [LinearSchedule(), FlowSchedule(), EDMSchedule(sigma_max=5.0)], ids=str)
@pytest.mark.parametrize("t", [0.05, 0.4, 0.9])
def test_the_denoiser_equals_the_integrated_posterior_mean(schedule: Schedule, t: float) -> None:
    """E[x0 | x_t] = int x0 p(x0) N(x_t; alpha x0, sigma^2) dx0 / int p(x0) N(...) dx0, by trapezoids."""
    time = torch.tensor(t, dtype=torch.float64)
    alpha, sigma = (float(v) for v in schedule(time))
    grid = torch.linspace(-4, 4, 80_001, dtype=torch.float64)
    for x_t in (-0.7, 0.2, 1.1):
        joint = LINE.log_prob(grid[:, None]) - 0.5 * ((x_t - alpha * grid) / sigma) ** 2
        weight = (joint - joint.max()).exp()
        mean = torch.trapezoid(weight * grid, grid) / torch.trapezoid(weight, grid)
        prediction = Oracle(LINE, schedule)(torch.tensor([[x_t]], dtype=torch.float64), time)
        assert float(prediction.x0) == pytest.approx(float(mean), abs=1e-6)
        assert alpha * float(prediction.x0) + sigma * float(prediction.eps) == pytest.approx(x_t, abs=1e-9)


def test_x0_is_the_mean_at_pure_noise() -> None:
    prediction = Oracle(FULL, FlowSchedule())(points(4, 2), torch.ones((), dtype=torch.float64))
    torch.testing.assert_close(prediction.x0, FULL.mean.expand(4, 2))


def test_samples_have_the_moments_of_the_mixture() -> None:
    n = 200_000
    draws = FULL.sample(n, torch.Generator().manual_seed(1))
    deviation = FULL.covariance.diagonal().sqrt() / math.sqrt(n)
    assert bool(((draws.mean(0) - FULL.mean).abs() < 5 * deviation).all())
    torch.testing.assert_close(draws.T.cov(), FULL.covariance, atol=5 * 0.6 / math.sqrt(n) * 3, rtol=0)


def test_images_are_flattened() -> None:
    x = points(3, 2)
    t = torch.tensor(0.3, dtype=torch.float64)
    flat, shaped = Oracle(FULL, LinearSchedule())(x, t), Oracle(FULL, LinearSchedule())(x.view(3, 1, 1, 2), t)
    torch.testing.assert_close(shaped.x0.flatten(1), flat.x0)


def test_the_density_equals_scikit_learns() -> None:
    """For a mixture fitted by EM, on points that it was and was not fitted to."""
    data = FULL.sample(500, torch.Generator().manual_seed(2))
    fitted = FittedMixture(3, random_state=0).fit(data.numpy())
    mixture = GaussianMixture(*(torch.tensor(v) for v in (fitted.weights_, fitted.means_, fitted.covariances_)))
    for x in (data[:50], points(50, 2)):
        torch.testing.assert_close(mixture.log_prob(x), torch.tensor(fitted.score_samples(x.numpy())))


def test_x0_does_not_change_when_rescaled_to_variance_exploding() -> None:
    """x / alpha at noise level sigma / alpha has the same x0."""
    schedule, x = LinearSchedule(), points(20, 2)
    t = torch.tensor(0.35, dtype=torch.float64)
    alpha, sigma = schedule(t)
    exploding = EDMSchedule(sigma_max=200.0)
    same = Oracle(FULL, exploding)(x / alpha, exploding.time_of_noise_level(sigma / alpha))
    torch.testing.assert_close(Oracle(FULL, schedule)(x, t).x0, same.x0)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: GaussianMixture.of([0.5, 0.6], [[0.0], [1.0]], [1.0, 1.0]), "weights"),
        (lambda: GaussianMixture.of([1.0], [[0.0], [1.0]], [1.0, 1.0]), "means"),
        (lambda: GaussianMixture(torch.ones(1).double(), torch.zeros(1, 1).double(), -torch.ones(1, 1, 1).double()),
         "covariances"),
    ],
)  # fmt: skip
def test_invalid_mixtures_are_refused(make, name: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=f"^{name}: "):
        make()


def test_each_image_may_have_its_own_time_including_pure_noise() -> None:
    x, t = points(3, 2), torch.tensor([0.5, 1.0, 0.25], dtype=torch.float64)
    oracle = Oracle(FULL, FlowSchedule())
    together = oracle(x, t)
    for i in range(3):
        alone = oracle(x[i : i + 1], t[i])
        assert torch.allclose(together.x0[i], alone.x0[0]) and torch.allclose(together.eps[i], alone.eps[0])
