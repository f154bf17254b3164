"""Distances between a set of points and a known distribution or another set. Points are (N,D)."""

import torch
from torch import Tensor


def mean_error(points: Tensor, mean: Tensor, covariance: Tensor) -> float:
    """|mean of the points - mean|, in units of the root of the total variance."""
    return float((points.mean(0) - mean).norm() / covariance.trace().sqrt())


def covariance_error(points: Tensor, covariance: Tensor) -> float:
    """|covariance of the points - covariance| / |covariance|, Frobenius norms."""
    return float((points.T.cov() - covariance).norm() / covariance.norm())


def sliced_wasserstein(a: Tensor, b: Tensor, directions: int = 128, seed: int = 0) -> float:
    """The root mean square over random directions of the 2-Wasserstein distance between projections on them.

    Bonneel et al. 2015, "Sliced and Radon Wasserstein barycenters of measures". Both sets have the same size N.

    Raises:
        ValueError: the shapes differ.
    """
    if a.shape != b.shape:
        raise ValueError(f"points: both sets must have the same shape, got {tuple(a.shape)} and {tuple(b.shape)}")
    g = torch.Generator().manual_seed(seed)
    axes = torch.randn(a.shape[1], directions, generator=g, dtype=a.dtype)
    axes = axes / axes.norm(dim=0)
    gap = (a @ axes).sort(0).values - (b @ axes).sort(0).values
    return float(gap.square().mean().sqrt())
