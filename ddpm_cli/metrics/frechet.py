"""The Frechet distance between two sets of features."""

import torch
from torch import Tensor, nn


class _Identity(nn.Module):
    """Returns features unchanged; torchmetrics expects a network that computes them."""

    def __init__(self, num_features: int):
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """|m - m'|^2 + tr(S + S' - 2 (S S')^1/2) of the means and covariances (Heusel et al. 2017, equation 6).

    Its expectation falls as either set grows, so values are comparable only between sets of the same sizes.

    Args:
        real, fake: (N,F) and (M,F), at least two each.

    Raises:
        ValueError: too few features, or of different lengths.
    """
    check_pair(real, fake)
    from torchmetrics.image.fid import FrechetInceptionDistance  # seconds to import

    metric = FrechetInceptionDistance(_Identity(real.shape[1]))
    # centred, because with a mean far from 0 the covariance is the difference of two large numbers
    centre = real.double().mean(0)
    metric.update(real.double() - centre, real=True)
    metric.update(fake.double() - centre, real=False)
    return max(float(metric.compute()), 0.0)


def check_pair(real: Tensor, fake: Tensor, least: int = 2) -> None:
    """Raises ValueError unless both are (N,F) with the same F, of `least` images each, and finite."""
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1]:
        shapes = f"{tuple(real.shape)} and {tuple(fake.shape)}"
        raise ValueError(f"features: must be (N,F) and (M,F) with the same F, got {shapes}")
    if min(len(real), len(fake)) < least:
        raise ValueError(f"n: needs at least {least} images, got {len(real)} real ones and {len(fake)} samples")
    if not bool(torch.isfinite(real).all() & torch.isfinite(fake).all()):
        raise ValueError("features: some are NaN or infinite; check the samples or use another extractor")
