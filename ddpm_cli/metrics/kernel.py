"""The kernel distance between two sets of features."""

import torch
from torch import Tensor

from .frechet import check_pair
from .resample import Estimate

SUBSET = 1000
"""Maximum number of images in a subset, as in Binkowski et al."""


def kernel_distance(real: Tensor, fake: Tensor, subsets: int, seed: int, size: int | None = None) -> Estimate:
    """The squared maximum mean discrepancy under k(a, b) = (a.b / F + 1)^3, unbiased (Binkowski et al. 2018, sec. 4).

    The value is the mean over random subsets, the spread their standard deviation. It can be negative, because its
    expectation is 0 for two sets from the same distribution.

    Args:
        real, fake: (N,F) and (M,F).
        subsets: number of pairs of subsets, drawn without replacement.
        size: images per subset; None = half of the smaller set, at most 1000.

    Raises:
        ValueError: too few images, a size out of range.
    """
    check_pair(real, fake, least=4)
    size = subset_size(len(real), len(fake)) if size is None else size
    if not 2 <= size <= min(len(real), len(fake)):
        raise ValueError(f"size: must be between 2 and {min(len(real), len(fake))} (the smaller set), got {size}")
    from torchmetrics.image.kid import poly_mmd  # seconds to import

    g = torch.Generator().manual_seed(seed)

    def random_subset(features: Tensor) -> Tensor:
        return features[torch.randperm(len(features), generator=g)[:size].to(features.device)].double()

    values = [float(poly_mmd(random_subset(real), random_subset(fake))) for _ in range(max(subsets, 1))]
    return Estimate.of(sum(values) / len(values), values)


def subset_size(real: int, fake: int) -> int:
    """The default size of a subset: half of the smaller set, so that subsets differ, but at most 1000."""
    return min(SUBSET, min(real, fake) // 2)
