"""A metric and its uncertainty, estimated by resampling the images."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Estimate(NamedTuple):
    """The value of a metric on all images, and its uncertainty from resamples of them.

    Args:
        value: the value on all images.
        spread: standard deviation over the resamples; None without resamples.
        low, high: the 16 % and 84 % quantiles of the resamples. For a statistic that is biased in n, like the Frechet
            distance, they are shifted from `value`, because a resample has fewer distinct images.
    """

    value: float
    spread: float | None = None
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, value: float, resampled: Sequence[float]) -> "Estimate":
        """The estimate from a value and the values of its resamples."""
        if len(resampled) < 2:
            return cls(value)
        values = torch.tensor(resampled, dtype=torch.float64)
        low, high = values.quantile(torch.tensor([0.16, 0.84], dtype=torch.float64)).tolist()
        return cls(value, float(values.std()), low, high)


def bootstrap(statistic: Callable[..., float], *sets: Tensor, resamples: int, seed: int) -> Estimate:
    """`statistic(*sets)`, and its spread when each set is resampled with replacement (Efron 1979).

    Args:
        sets: tensors (N,...) with one row per image; each is resampled independently, to its own size.
        resamples: number of resamples; below 2 there is no spread.

    Raises:
        ValueError: a set is empty.
    """
    if any(not len(s) for s in sets):
        raise ValueError("n: must be at least 1, got no images to resample")
    g = torch.Generator().manual_seed(seed)

    def resample(rows: Tensor) -> Tensor:
        return rows[torch.randint(len(rows), (len(rows),), generator=g).to(rows.device)]

    return Estimate.of(statistic(*sets), [statistic(*map(resample, sets)) for _ in range(resamples)])


def mean(values: Tensor) -> float:
    """The mean of numbers or booleans."""
    return float(values.double().mean())
