"""The kernel distance of two sets of features."""

import torch
from torch import Tensor

from .frechet import check_pair
from .resample import Estimate

SUBSET = 1000
"""Images of a subset at most, as Binkowski et al. have it."""


def kernel_distance(real: Tensor, fake: Tensor, subsets: int, seed: int, size: int | None = None) -> Estimate:
    """The squared maximum mean discrepancy under k(a, b) = (a.b / F + 1)^3, unbiased (Binkowski et al. 2018, sec. 4).

    Mean over random subsets, whose standard deviation is the spread; it may be below 0, as 0 is its expectation for
    sets of one distribution.

    Args:
        real, fake: (N,F) and (M,F).
        subsets: how many pairs of subsets, drawn without replacement.
        size: images of a subset; None = half of the smaller set, at most 1000.

    Raises:
        ValueError: too few images, a size out of range.
    """
    check_pair(real, fake, least=4)
    size = subset_size(len(real), len(fake)) if size is None else size
    if not 2 <= size <= min(len(real), len(fake)):
        raise ValueError(f"size: must be between 2 and the smaller set's {min(len(real), len(fake))}, got {size}")
    from torchmetrics.image.kid import poly_mmd  # seconds to import

    g = torch.Generator().manual_seed(seed)

    def random_subset(of: Tensor) -> Tensor:
        return of[torch.randperm(len(of), generator=g)[:size].to(of.device)].double()

    values = [float(poly_mmd(random_subset(real), random_subset(fake))) for _ in range(max(subsets, 1))]
    return Estimate.of(sum(values) / len(values), values)


def subset_size(real: int, fake: int) -> int:
    """Half of the smaller set, so that subsets differ; at most 1000."""
    return min(SUBSET, min(real, fake) // 2)
