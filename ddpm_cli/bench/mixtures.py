"""The mixtures that samplers are tried on."""

import torch

from ..diffusion.oracle import GaussianMixture
from ..errors import ConfigError

COMPONENTS, DIMENSIONS = 20, 16


def mixture_of(name: str) -> GaussianMixture:
    """Raises ConfigError for an unknown one."""
    if name == "plane":
        return GaussianMixture.of([0.2, 0.3, 0.5], [[-0.7, 0.5], [0.6, 0.6], [0.1, -0.6]], [0.1, 0.25, 0.15])
    if name == "digits":
        return _digits()
    raise ConfigError(f"mixture: must be plane or digits, got {name!r}")


def _digits() -> GaussianMixture:
    """20 full components by EM on the first 16 principal components of the digits, in [-1, 1] pixels."""
    from sklearn.datasets import load_digits
    from sklearn.decomposition import PCA
    from sklearn.mixture import GaussianMixture as ByEM

    pixels = load_digits().data / 8 - 1
    points = PCA(DIMENSIONS, random_state=0).fit_transform(pixels)
    fitted = ByEM(COMPONENTS, random_state=0, reg_covar=1e-3).fit(points)
    return GaussianMixture(*(torch.from_numpy(v) for v in (fitted.weights_, fitted.means_, fitted.covariances_)))
