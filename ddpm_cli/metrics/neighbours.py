"""Nearest neighbours: precision and recall, and copies of training images."""

from typing import NamedTuple

import torch
from torch import Tensor

from .frechet import check_pair

CELLS = 2**24
"""Maximum number of distances in memory at a time."""
CANDIDATES = 4
"""Neighbours that are found approximately and then compared exactly."""


class PrecisionRecall(NamedTuple):
    """One boolean per image; the means are precision and recall.

    precise (M,): whether a sample is in the support of the real images. recalled (N,): whether a real image is in the
    support of the samples.
    """

    precise: Tensor
    recalled: Tensor


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> PrecisionRecall:
    """Precision and recall; the support of a set is the union of balls from each image to its k-th nearest other one.

    Kynkaanniemi et al. 2019, "Improved precision and recall metric for assessing generative models", equations 1 and 2.

    Args:
        real, fake: features (N,F) and (M,F), with N and M above k.

    Raises:
        ValueError: k is below 1, or there are too few images.
    """
    if k < 1:
        raise ValueError(f"neighbours: must be at least 1, got {k}")
    check_pair(real, fake, least=k + 1)
    real, fake = real.double(), fake.double()
    return PrecisionRecall(_inside(fake, real, _radii(real, k)), _inside(real, fake, _radii(fake, k)))


def _radii(points: Tensor, k: int) -> Tensor:
    """(N,) the distance of each point to its k-th nearest other point."""
    radii = []
    for first, rows in _chunks(points, len(points)):
        distances = torch.cdist(rows, points)
        distances[torch.arange(len(rows)), first + torch.arange(len(rows))] = torch.inf  # the point itself
        radii.append(distances.kthvalue(k, dim=1).values)
    return torch.cat(radii)


def _inside(queries: Tensor, points: Tensor, radii: Tensor) -> Tensor:
    """(M,) bool: whether each query is inside any of the balls."""
    return torch.cat([(torch.cdist(rows, points) <= radii).any(1) for _, rows in _chunks(queries, len(points))])


class Nearest(NamedTuple):
    """For each query, the distance (M,) to the nearest point and its index `which` (M,) int64."""

    distance: Tensor
    which: Tensor


def nearest(queries: Tensor, points: Tensor, mirrored: bool = False) -> Nearest:
    """The nearest of `points` to each image by root mean square difference, in the units of the pixels.

    Args:
        queries, points: (M,C,H,W) and (N,C,H,W).
        mirrored: also compare with mirrored points, for a model that was trained on both.

    Raises:
        ValueError: there are no points, or they have another shape.
    """
    if not len(points) or queries.shape[1:] != points.shape[1:]:
        raise ValueError(f"images: cannot compare shape {tuple(queries.shape)} with {tuple(points.shape)}")
    plain = _nearest(queries.flatten(1).float(), points.flatten(1).float())
    if not mirrored:
        return plain
    flipped = _nearest(queries.flip(-1).flatten(1).float(), points.flatten(1).float())
    closer = flipped.distance < plain.distance
    return Nearest(torch.minimum(plain.distance, flipped.distance), torch.where(closer, flipped.which, plain.which))


def _nearest(queries: Tensor, points: Tensor) -> Nearest:
    distances, indices = [], []
    for _, rows in _chunks(queries, len(points)):
        # cdist is too inexact to tell a copy from a similar image: it finds candidates, which are then compared exactly
        close = torch.cdist(rows, points).topk(min(CANDIDATES, len(points)), largest=False).indices
        exact = (points[close] - rows[:, None]).square().mean(2).sqrt()
        best = exact.min(1)
        distances.append(best.values)
        indices.append(close.gather(1, best.indices[:, None])[:, 0])
    return Nearest(torch.cat(distances), torch.cat(indices))


def _chunks(rows: Tensor, columns: int) -> list[tuple[int, Tensor]]:
    """(index of its first row, rows) of chunks, which limit the memory of the distances to `columns` points."""
    size = max(CELLS // max(columns, 1), 1)
    return [(first, rows[first : first + size]) for first in range(0, len(rows), size)]
