"""EM: its log-likelihood, its starting point and the inputs it refuses."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from ddpm_cli.data.digits import Digits
from ddpm_cli.data.images import Images
from ddpm_cli.diffusion.ode import dequantized
from ddpm_cli.diffusion.oracle import GaussianMixture
from ddpm_cli.errors import ConfigError, NonFiniteError
from ddpm_cli.models.gmm import GMM
from ddpm_cli.models.mixture import Mixture
from ddpm_cli.objectives.em import EM
from ddpm_cli.training import em
from ddpm_cli.training.em import EMState
from ddpm_cli.training.em_steps import dequantized_images, iterate, set_basis


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def images_of(pixels: Tensor) -> Images:
    return Images(pixels.contiguous(), torch.zeros(len(pixels), dtype=torch.int64), ())


def clouds() -> Images:
    """Points of three overlapping round clouds in 2x2 pixels."""
    means = [[-0.4, -0.3, 0.2, 0.5], [0.3, 0.4, -0.2, -0.4], [0.0, 0.2, 0.5, -0.6]]
    mixture = GaussianMixture.of([0.2, 0.3, 0.5], means, [0.2, 0.25, 0.15])
    x = mixture.sample(600, torch.Generator().manual_seed(0)).clamp(-1, 1).view(-1, 1, 2, 2)
    return images_of(((x + 1) * 127.5).round().to(torch.uint8))


def stripes() -> Images:
    """Colour stripes of random slope and brightness: not a mixture of a few Gaussians."""
    g = torch.Generator().manual_seed(1)
    slope, phase, height = (torch.rand(500, 1, 1, 1, generator=g) for _ in range(3))
    i, j = torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="ij")
    wave = torch.sin(3 * slope * i + 2 * j + 6 * phase) * height
    x = torch.cat([wave, -wave, wave.square()], dim=1)
    return images_of(((x + 1) * 127).to(torch.uint8))


SETS = {"digits": (lambda: Digits().load("train"), 20), "clouds": (clouds, 4), "stripes": (stripes, 8)}


@pytest.mark.parametrize("name", SETS)
def test_the_log_likelihood_never_falls(name: str) -> None:
    """And it equals the log-density of all pixels that the module computes."""
    load, dimensions = SETS[name]
    images = load()
    module, x = GMM(images.shape[0], images.shape[1:], 4, dimensions), dequantized_images(images, None, 0)
    set_basis(module, x)
    c, rest = module.coordinates(x), float(module.log_rest(x).mean())
    values = [iterate(module.mixture, c, 0.0, 0, first=not i) + rest for i in range(12)]
    assert all(b >= a - 1e-8 * abs(a) for a, b in pairwise(values))
    assert values[-1] > values[0] + 0.001  # EM made progress
    assert values[-1] == pytest.approx(float(module.log_prob(x).mean()), rel=1e-9)


def test_an_iteration_is_one_e_and_one_m_step() -> None:
    """Written out: responsibilities, then weighted means and covariances (Bishop 2006, section 9.2.2)."""
    mixture, z = Mixture(2, 3, torch.float64), torch.randn(80, 3, dtype=torch.float64)
    mixture.fill(torch.tensor([0.4, 0.6]), torch.tensor([[-0.5] * 3, [0.5] * 3]), torch.eye(3).repeat(2, 1, 1))
    logs = torch.stack(
        [
            w.log() + torch.distributions.MultivariateNormal(m, s).log_prob(z)
            for w, m, s in zip(mixture.weights, mixture.means, mixture.covariances, strict=True)
        ],
        dim=1,
    )
    r = logs.softmax(1)
    means = r.T @ z / r.sum(0)[:, None]
    centered = z[:, None] - means
    expected = torch.einsum("nk,nki,nkj->kij", r, centered, centered) / r.sum(0)[:, None, None]
    iterate(mixture, z, 0.0, 0)
    assert mixture.weights.allclose(r.mean(0)) and mixture.means.allclose(means)
    assert mixture.covariances.allclose(expected)
    iterate(mixture, z, 0.25, 0)
    floored = mixture.covariances.diagonal(dim1=1, dim2=2).clone()
    assert bool((torch.linalg.eigvalsh(mixture.covariances) > 0.25).all()) and bool((floored > 0.25).all())


def test_the_basis_spans_the_directions_of_most_variance() -> None:
    images = stripes()
    module, x = GMM(3, 4, 2, 6), dequantized_images(images, None, 0)
    set_basis(module, x)
    flat = x.flatten(1)
    values = torch.linalg.eigvalsh((flat - flat.mean(0)).T @ (flat - flat.mean(0)) / len(flat))
    assert (module.basis @ module.basis.T).allclose(torch.eye(6, dtype=torch.float64), atol=1e-12)
    assert module.coordinates(x).square().mean(0).sum() == pytest.approx(float(values[-6:].sum()), rel=1e-6)
    assert float(module.residual) == pytest.approx(float(values[:-6].mean()), rel=1e-4)


def test_dequantized_pixels_stay_in_their_bins() -> None:
    images = clouds()
    x = dequantized_images(images, None, 0)
    low, high = (dequantized(images.pixels, torch.full(images.pixels.shape, u, dtype=torch.float64)) for u in (0, 1))
    assert bool(((x >= low) & (x < high)).all())
    assert x.equal(dequantized_images(images, None, 0)) and not x.equal(dequantized_images(images, None, 1))
    assert len(dequantized_images(images, 50, 0)) == 50


def test_a_falling_log_likelihood_is_an_error_but_with_a_floor_it_ends_em() -> None:
    state = EMState(GMM(1, 2, 2, 2))
    state.log_likelihood, state.step = 10.0, 3
    with pytest.raises(NonFiniteError, match="log_likelihood: fell from 10.0 to 9.9 at iteration 4"):
        em._must_undo(state, 9.9, EM())
    assert not em._must_undo(state, 10.0 - 1e-8, EM(tol=0))  # that is rounding
    assert em._must_undo(state, 9.9, EM(floor=1e-3)) and state.converged
    state.converged = False
    assert not em._must_undo(state, 10.5, EM(tol=1)) and state.converged
    with pytest.raises(NonFiniteError, match="is not finite"):
        em._must_undo(state, float("nan"), EM())


def test_inputs_that_em_refuses() -> None:
    images = clouds().take(3)
    with pytest.raises(ConfigError, match="model.dimensions: must be below the 3 training images"):
        set_basis(GMM(1, 2, 2, 4), dequantized_images(images, None, 0))
    with pytest.raises(ConfigError, match="model.components: must be at most the 3"):
        iterate(Mixture(5, 2, torch.float64), torch.randn(3, 2), 0.0, 0, first=True)
    same = torch.zeros(50, 2)  # one point fifty times: there is no covariance
    with pytest.raises(ConfigError, match="collapsed onto too few images"):
        iterate(
            Mixture(2, 2, torch.float64),
            same + torch.tensor([1.0, 0.0]) * (torch.arange(50) % 2)[:, None],
            0.0,
            0,
            True,
        )
    for options, message in (({"tol": -1.0}, "tol"), ({"floor": -1.0}, "floor"), ({"images": 0}, "images")):
        with pytest.raises(ValueError, match=message):
            EM(**options)  # type: ignore[arg-type]
