"""Frechet and kernel distance, compared with closed forms and direct sums."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor

from ddpm_cli.metrics.frechet import frechet_distance
from ddpm_cli.metrics.kernel import kernel_distance, subset_size


def points(n: int, f: int, seed: int, scale: float = 1.0, shift: float = 0.0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    mix = torch.randn(f, f, generator=g, dtype=torch.float64)
    return torch.randn(n, f, generator=g, dtype=torch.float64) @ mix * scale + shift


def standardized(n: int, f: int, seed: int) -> Tensor:
    """Points whose mean is exactly 0 and whose covariance is exactly the identity."""
    x = points(n, f, seed)
    x = x - x.mean(0)
    return x @ torch.linalg.inv(torch.linalg.cholesky(x.T.cov()).mT)


@pytest.mark.parametrize("shift", [0.0, 1000.0])
def test_frechet_equals_the_formula_with_a_matrix_root(shift: float) -> None:
    a, b = points(200, 6, 0, shift=shift), points(150, 6, 1, scale=1.5, shift=shift + 0.3)
    means, covariances = (a.mean(0), b.mean(0)), [np.cov(x.numpy(), rowvar=False) for x in (a, b)]
    root = np.real(sqrtm(covariances[0] @ covariances[1]))
    expected = float((means[0] - means[1]).square().sum()) + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-6)


def test_frechet_of_diagonal_gaussians_equals_the_closed_form() -> None:
    """|m|^2 + sum (s - s')^2 when both covariances are diagonal."""
    unit = standardized(300, 4, 0)
    rows = [[1.0, 2.0, 0.5, 3.0], [2.0, 1.0, 0.5, 0.1], [1.0, 0.0, -2.0, 0.0]]
    s, other, m = torch.tensor(rows, dtype=torch.float64)
    distance = frechet_distance(unit * s, unit.flip(0) * other + m)
    assert distance == pytest.approx(float(m.square().sum() + (s - other).square().sum()), rel=1e-9)


def test_frechet_of_a_set_with_itself_is_zero_even_with_few_images() -> None:
    assert frechet_distance(points(200, 6, 0), points(200, 6, 0)) == pytest.approx(0, abs=1e-6)
    five = points(5, 40, 0)  # covariances of rank 4
    assert frechet_distance(five, five) == pytest.approx(0, abs=1e-4)
    assert frechet_distance(five.float(), five.float() + 1) == pytest.approx(40, rel=1e-4)


def test_frechet_is_biased_upwards_in_n() -> None:
    small = [frechet_distance(standardized(2000, 8, 0), torch.randn(20, 8, generator=g(i))) for i in range(5)]
    large = [frechet_distance(standardized(2000, 8, 0), torch.randn(2000, 8, generator=g(i))) for i in range(5)]
    assert min(small) > 5 * max(large)


def g(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def direct_mmd(a: Tensor, b: Tensor) -> float:
    """The unbiased estimator of Binkowski et al. 2018, equation 4, as a double loop."""

    def k(x: Tensor, y: Tensor) -> float:
        return float((x @ y / len(x) + 1) ** 3)

    m = len(a)
    within = sum(k(x[i], x[j]) for x in (a, b) for i in range(m) for j in range(m) if i != j)
    return within / (m * (m - 1)) - 2 * sum(k(x, y) for x in a for y in b) / m**2


def test_kernel_distance_equals_the_direct_sum() -> None:
    a, b = points(12, 5, 0), points(12, 5, 1, shift=0.5)
    whole = kernel_distance(a, b, subsets=1, seed=0, size=12)
    assert whole.value == pytest.approx(direct_mmd(a, b), rel=1e-9) and whole.spread is None
    several = kernel_distance(a, b, subsets=2000, seed=0, size=6)
    assert several.spread is not None
    assert abs(several.value - direct_mmd(a, b)) < 5 * several.spread / 2000**0.5  # subsets do not bias the mean


def test_kernel_distance_within_a_distribution_is_about_zero() -> None:
    near = kernel_distance(torch.randn(400, 4, generator=g(0)), torch.randn(300, 4, generator=g(1)), 50, 0)
    far = kernel_distance(torch.randn(400, 4, generator=g(0)), torch.randn(300, 4, generator=g(1)) + 1, 50, 0)
    assert near.spread is not None and abs(near.value) < near.spread < far.value / 5
    assert subset_size(400, 300) == 150 and subset_size(10**5, 10**5) == 1000


def test_kernel_distance_depends_only_on_its_seed() -> None:
    a, b = points(40, 5, 0), points(40, 5, 1)
    torch.manual_seed(5)
    one = kernel_distance(a, b, 10, 3)
    torch.manual_seed(6)
    assert kernel_distance(a, b, 10, 3) == one != kernel_distance(a, b, 10, 4)


@pytest.mark.parametrize("distance", [frechet_distance, lambda a, b: kernel_distance(a, b, 2, 0)])
def test_features_that_cannot_be_compared(distance: object) -> None:
    assert callable(distance)
    with pytest.raises(ValueError, match="features: must be"):
        distance(points(9, 5, 0), points(9, 4, 0))
    with pytest.raises(ValueError, match="n: needs at least"):
        distance(points(9, 5, 0), points(1, 5, 0))
    with pytest.raises(ValueError, match="features: some are NaN or infinite"):
        distance(points(9, 5, 0), points(9, 5, 0) * float("nan"))
    with pytest.raises(ValueError, match="size: must be between 2 and"):
        kernel_distance(points(9, 5, 0), points(6, 5, 0), 2, 0, size=7)
