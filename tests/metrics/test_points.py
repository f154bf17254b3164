"""Distances of point sets with known answers."""

import math

import pytest
import torch

from ddpm_cli.metrics.points import covariance_error, mean_error, sliced_wasserstein

EYE = torch.eye(3, dtype=torch.float64)


def normal(n: int, seed: int) -> torch.Tensor:
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_distance_of_a_shift_equals_that_of_its_projections() -> None:
    """E over directions of (u . d)^2 = |d|^2 / D."""
    x, shift = normal(500, 0), torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64)
    distance = sliced_wasserstein(x, x + shift, directions=20_000)
    assert distance == pytest.approx(1 / math.sqrt(3), rel=0.02)
    assert mean_error(x - x.mean(0) + shift, torch.zeros(3).double(), EYE) == pytest.approx(1 / math.sqrt(3))


def test_order_does_not_matter_and_scale_does() -> None:
    x = normal(400, 1)
    assert sliced_wasserstein(x, x.flip(0)) == 0
    assert sliced_wasserstein(x, 2 * x) == pytest.approx(sliced_wasserstein(x, 0 * x), rel=1e-9)


def test_covariance_error_is_relative() -> None:
    x = normal(200_000, 2)
    assert covariance_error(x, EYE) < 0.02
    assert covariance_error(2 * x, EYE) == pytest.approx(3, abs=0.05)


def test_sets_of_different_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="^points: "):
        sliced_wasserstein(normal(3, 0), normal(4, 0))
