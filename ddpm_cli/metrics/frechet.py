"""The Frechet distance of two sets of features."""

import torch
from torch import Tensor, nn


class _AsTheyAre(nn.Module):
    """Features that are there already, where torchmetrics expects the network that makes them."""

    def __init__(self, num_features: int):
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """|m - m'|^2 + tr(S + S' - 2 (S S')^1/2) of the means and covariances (Heusel et al. 2017, equation 6).

    Its expectation falls as either set grows, so figures compare only at the same sizes.

    Args:
        real, fake: (N,F) and (M,F), at least two each.

    Raises:
        ValueError: too few, or features of different lengths.
    """
    check_pair(real, fake)
    from torchmetrics.image.fid import FrechetInceptionDistance  # seconds to import

    metric = FrechetInceptionDistance(_AsTheyAre(real.shape[1]))
    # about a common point, else S is the difference of two large numbers where the mean is far from 0
    middle = real.double().mean(0)
    metric.update(real.double() - middle, real=True)
    metric.update(fake.double() - middle, real=False)
    return max(float(metric.compute()), 0.0)


def check_pair(real: Tensor, fake: Tensor, least: int = 2) -> None:
    """Raises ValueError unless both are (N,F) with the same F, of `least` images each, and finite."""
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1]:
        raise ValueError(f"features: must be (N,F) with one F, got {tuple(real.shape)} and {tuple(fake.shape)}")
    if min(len(real), len(fake)) < least:
        raise ValueError(f"n: needs at least {least} images, got {len(real)} real ones and {len(fake)} samples")
    if not bool(torch.isfinite(real).all() & torch.isfinite(fake).all()):
        raise ValueError("features: some are not finite; look at the samples, or use another extractor")
