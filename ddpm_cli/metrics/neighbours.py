"""What is near to what: precision and recall, and copies of training images."""

from typing import NamedTuple

import torch
from torch import Tensor

from .frechet import check_pair

CELLS = 2**24
"""Distances in memory at a time."""
CANDIDATES = 4


class PrecisionRecall(NamedTuple):
    """One yes or no an image; the means are precision and recall.

    precise (M,): the sample lies in the support of the real images. recalled (N,): the real one in that of the samples.
    """

    precise: Tensor
    recalled: Tensor


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> PrecisionRecall:
    """The support is the union of balls around the images of a set, each up to its k-th nearest other one.

    Kynkaanniemi et al. 2019, "Improved precision and recall metric for assessing generative models", equations 1 and 2.

    Args:
        real, fake: features (N,F) and (M,F), more than k each.

    Raises:
        ValueError: k below 1, too few images.
    """
    if k < 1:
        raise ValueError(f"neighbours: must be at least 1, got {k}")
    check_pair(real, fake, least=k + 1)
    real, fake = real.double(), fake.double()
    return PrecisionRecall(_inside(fake, real, _radii(real, k)), _inside(real, fake, _radii(fake, k)))


def _radii(points: Tensor, k: int) -> Tensor:
    """(N,) the distance of each to its k-th nearest other one."""
    found = []
    for first, rows in _chunks(points, len(points)):
        distances = torch.cdist(rows, points)
        distances[torch.arange(len(rows)), first + torch.arange(len(rows))] = torch.inf  # itself
        found.append(distances.kthvalue(k, dim=1).values)
    return torch.cat(found)


def _inside(queries: Tensor, points: Tensor, radii: Tensor) -> Tensor:
    """(M,) bool: whether any ball has it."""
    return torch.cat([(torch.cdist(rows, points) <= radii).any(1) for _, rows in _chunks(queries, len(points))])


class Nearest(NamedTuple):
    """For each query: the distance to the nearest point, and which one that is. (M,), (M,) int64."""

    distance: Tensor
    which: Tensor


def nearest(queries: Tensor, points: Tensor, mirrored: bool = False) -> Nearest:
    """Root mean square difference of each image to the nearest of `points`, in the units of the pixels.

    Args:
        queries, points: (M,C,H,W) and (N,C,H,W).
        mirrored: the points count left to right as well, as they do for a model that trained on both.

    Raises:
        ValueError: no points, or images of another shape.
    """
    if not len(points) or queries.shape[1:] != points.shape[1:]:
        raise ValueError(f"images: cannot compare {tuple(queries.shape)} with {tuple(points.shape)}")
    straight = _nearest(queries.flatten(1).float(), points.flatten(1).float())
    if not mirrored:
        return straight
    other = _nearest(queries.flip(-1).flatten(1).float(), points.flatten(1).float())
    closer = other.distance < straight.distance
    return Nearest(torch.minimum(straight.distance, other.distance), torch.where(closer, other.which, straight.which))


def _nearest(queries: Tensor, points: Tensor) -> Nearest:
    distances, indices = [], []
    for _, rows in _chunks(queries, len(points)):
        # the fast product is too coarse to tell a copy from a near one: it proposes, exact differences decide
        close = torch.cdist(rows, points).topk(min(CANDIDATES, len(points)), largest=False).indices
        exact = (points[close] - rows[:, None]).square().mean(2).sqrt()
        best = exact.min(1)
        distances.append(best.values)
        indices.append(close.gather(1, best.indices[:, None])[:, 0])
    return Nearest(torch.cat(distances), torch.cat(indices))


def _chunks(rows: Tensor, columns: int) -> list[tuple[int, Tensor]]:
    """(number of its first row, rows) of parts that bound the memory of their distances to `columns` points."""
    size = max(CELLS // max(columns, 1), 1)
    return [(first, rows[first : first + size]) for first in range(0, len(rows), size)]
