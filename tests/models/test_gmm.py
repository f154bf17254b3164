"""The density and the samples of a mixture, compared with scipy, scikit-learn and the mixture in all dimensions."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture
from torch import Tensor

from ddpm_cli.models.gmm import GMM
from ddpm_cli.models.mixture import Mixture


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def covariances(k: int, d: int, seed: int = 0) -> Tensor:
    a = torch.randn(k, d, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return 0.1 * a @ a.mT + 0.05 * torch.eye(d)


def filled(k: int = 3, d: int = 4) -> Mixture:
    g = torch.Generator().manual_seed(1)
    mixture = Mixture(k, d, torch.float64)
    mixture.fill(torch.tensor([0.2, 0.3, 0.5]), torch.randn(k, d, generator=g).double(), covariances(k, d))
    return mixture


def reduced() -> GMM:
    """Three components in 4 of the 6 dimensions of 2x3 pixels."""
    g = torch.Generator().manual_seed(2)
    model = GMM(1, (2, 3), components=3, dimensions=4)
    model.mixture = filled()
    model.center.copy_(torch.randn(6, generator=g))
    model.basis.copy_(torch.linalg.qr(torch.randn(6, 4, generator=g, dtype=torch.float64))[0].T)
    model.residual.fill_(0.07)
    return model


def in_all_dimensions(model: GMM) -> tuple[Tensor, Tensor]:
    """Means (K,D) and covariances (K,D,D) of the same density."""
    u = model.basis
    complement = torch.eye(u.shape[1], dtype=torch.float64) - u.T @ u
    return model.center + model.mixture.means @ u, u.T @ model.mixture.covariances @ u + model.residual * complement


def test_the_density_of_a_mixture_equals_scikit_learns() -> None:
    mixture, z = filled(), torch.randn(50, 4, dtype=torch.float64)
    other = GaussianMixture(3)
    other.weights_, other.means_ = mixture.weights.numpy(), mixture.means.numpy()
    other.covariances_ = mixture.covariances.numpy()
    other.precisions_cholesky_ = np.linalg.inv(mixture.factors.numpy()).transpose(0, 2, 1)
    assert mixture.log_prob(z).numpy() == pytest.approx(other.score_samples(z.numpy()), rel=1e-10)


def test_the_density_with_a_residual_equals_scipys_in_all_dimensions() -> None:
    model = reduced()
    means, sigmas = in_all_dimensions(model)
    x = torch.randn(20, 1, 2, 3, dtype=torch.float64)
    densities = [
        w * multivariate_normal(m, s).pdf(x.flatten(1).numpy())
        for w, m, s in zip(model.mixture.weights.numpy(), means.numpy(), sigmas.numpy(), strict=True)
    ]
    assert model.log_prob(x).numpy() == pytest.approx(np.log(np.sum(densities, 0)), rel=1e-9)


def test_the_density_integrates_to_one() -> None:
    """In a plane with one component and a residual in the other direction."""
    model = GMM(1, (1, 2), components=2, dimensions=1)
    model.mixture.fill(torch.tensor([0.4, 0.6]), torch.tensor([[-1.0], [0.5]]), torch.tensor([[[0.1]], [[0.3]]]))
    model.basis.copy_(torch.tensor([[0.6, 0.8]]))
    model.residual.fill_(0.2)
    axis = torch.linspace(-6, 6, 401, dtype=torch.float64)
    x = torch.cartesian_prod(axis, axis).view(-1, 1, 1, 2)
    assert float(model.log_prob(x).exp().sum() * (axis[1] - axis[0]) ** 2) == pytest.approx(1, abs=1e-6)


def test_the_moments_of_samples() -> None:
    model, n = reduced(), 40_000
    g = torch.Generator().manual_seed(3)
    x = model.sample(torch.rand(n, generator=g), torch.randn(n, 4, generator=g), torch.randn(n, 1, 2, 3, generator=g))
    x = x.flatten(1).double()
    means, sigmas = in_all_dimensions(model)
    w = model.mixture.weights
    mean = w @ means
    offsets = means - mean
    covariance = torch.einsum("k,kij->ij", w, sigmas + offsets[:, :, None] * offsets[:, None, :])
    assert x.mean(0).allclose(mean, atol=0.03)
    assert x.T.cov().allclose(covariance, atol=0.05)


def test_samples_without_a_residual_lie_in_the_subspace() -> None:
    model = reduced()
    x = model.sample(torch.rand(10), torch.randn(10, 4))
    projected = model.center + model.coordinates(x) @ model.basis
    assert x.flatten(1).double().allclose(projected, atol=1e-5)


def test_components_of_weight_zero_do_not_count() -> None:
    small, large = filled(), Mixture(5, 4, torch.float64)
    large.fill(small.weights, small.means, small.covariances)
    z, u = torch.randn(10, 4, dtype=torch.float64), torch.linspace(0, 0.999, 10, dtype=torch.float64)
    assert large.log_prob(z).allclose(small.log_prob(z)) and large.sample(u, z).allclose(small.sample(u, z))
    assert large.fitted and not Mixture(2, 2).fitted


def test_values_out_of_range_are_named() -> None:
    with pytest.raises(ValueError, match="dimensions: must be between 1 and the 6 pixel values"):
        GMM(1, (2, 3), dimensions=7)
    with pytest.raises(ValueError, match="components: must be at least 1"):
        GMM(1, 2, components=0, dimensions=2)
