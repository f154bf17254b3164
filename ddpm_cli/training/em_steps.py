"""One E and M step by scikit-learn, and the starting point of EM; all state is in the module's buffers."""

import warnings
from typing import Any

import torch
from torch import Tensor

from ..data.images import Images
from ..diffusion.ode import dequantized
from ..errors import CheckpointError, ConfigError
from ..models.gmm import GMM
from ..models.mixture import Mixture
from .randomness import seed_of


def dequantized_images(data: Images, most: int | None, seed: int) -> Tensor:
    """(N,C,H,W) float64 images, dequantized by uniform noise that is a function of the seed; at most `most` of them."""
    generator = torch.Generator().manual_seed(seed_of(seed, 1))
    if most is not None and most < len(data):
        data = data.subset(torch.randperm(len(data), generator=generator)[:most])
    u = torch.rand(data.pixels.shape, generator=generator)
    return dequantized(data.pixels, u.double())


def set_basis(module: GMM, x: Tensor) -> None:
    """Set the module's basis to the principal components of images (N,C,H,W).

    Its residual is the mean variance of the remaining components (Tipping & Bishop 1999, eq. 8).

    Raises:
        ConfigError: not more images than components.
    """
    from sklearn.decomposition import PCA  # takes a second to import

    flat, k = x.flatten(1).numpy(), module.dimensions
    if len(flat) <= k:
        raise ConfigError(f"model.dimensions: must be below the {len(flat)} training images, got {k}")
    pca = PCA(k, random_state=0).fit(flat)
    basis, _ = torch.linalg.qr(torch.from_numpy(pca.components_).T)  # orthonormal up to rounding
    module.center.copy_(torch.from_numpy(pca.mean_))
    module.basis.copy_(basis.T)
    left = module.center.numel() - k
    if left:
        total = float(x.flatten(1).var(0, correction=0).sum())
        kept = float(module.coordinates(x).square().sum() / len(flat))
        module.residual.fill_(max((total - kept) / left, 1e-12))


def start_of(mixture: Mixture) -> dict[str, Any]:
    """Arguments that start scikit-learn's EM from `mixture`. Weights of 0, which have no logarithm, become tiny.

    Raises:
        CheckpointError: it is no mixture that was fitted: a covariance cannot be inverted, or a value is not finite.
    """
    weights = mixture.weights.cpu().double().clamp(min=1e-12)
    factors = mixture.factors.cpu().double()
    finite = all(bool(v.isfinite().all()) for v in (weights, mixture.means, factors))
    if not finite or (factors.diagonal(dim1=-2, dim2=-1) <= 0).any():
        raise CheckpointError("checkpoint: its mixture was never fitted or is damaged; use another checkpoint")
    precisions = torch.cholesky_inverse(factors)
    return {
        "weights_init": (weights / weights.sum()).numpy(),
        "means_init": mixture.means.cpu().double().numpy(),
        "precisions_init": ((precisions + precisions.mT) / 2).numpy(),
    }


def iterate(mixture: Mixture, points: Tensor, floor: float, seed: int, first: bool = False) -> float:
    """One E and M step on points (N,L), in place; the first one starts with k-means. Returns the mean log-likelihood.

    When the step fails, the mixture is unchanged.

    Raises:
        ConfigError: fewer points than components, a component that collapsed onto too few of them.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    k = len(mixture.weights)
    if len(points) < k:
        raise ConfigError(f"model.components: must be at most the {len(points)} training images, got {k}")
    start = {} if first else start_of(mixture)
    step = GaussianMixture(k, tol=0.0, reg_covar=floor, max_iter=1, random_state=seed, **start)
    array = points.double().numpy()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # expected after a single iteration
            step.fit(array)
        mixture.fill(*(torch.from_numpy(v) for v in (step.weights_, step.means_, step.covariances_)))
    except (ValueError, torch.linalg.LinAlgError) as error:
        if isinstance(error, ValueError) and "ill-defined" not in str(error):
            raise
        raise ConfigError(
            f"model.components: one of the {k} collapsed onto too few images; use fewer components, fewer "
            "model.dimensions, or objective.floor=1e-5"
        ) from error
    return float(step.score(array))
