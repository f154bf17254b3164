"""A figure and how far it would move with other images of the same kind."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Estimate(NamedTuple):
    """A figure of the full sample and what resamples of it gave.

    Args:
        value: of the full sample.
        spread: standard deviation over the resamples; None without any.
        low, high: their 16 % and 84 % quantiles. A statistic that is biased in n, as the Frechet distance, has them
            off `value`: a resample has fewer different images.
    """

    value: float
    spread: float | None = None
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, value: float, resampled: Sequence[float]) -> "Estimate":
        if len(resampled) < 2:
            return cls(value)
        values = torch.tensor(resampled, dtype=torch.float64)
        low, high = values.quantile(torch.tensor([0.16, 0.84], dtype=torch.float64)).tolist()
        return cls(value, float(values.std()), low, high)


def bootstrap(statistic: Callable[..., float], *sets: Tensor, resamples: int, seed: int) -> Estimate:
    """`statistic(*sets)`, and its spread when each set is drawn anew from itself with replacement (Efron 1979).

    Args:
        sets: (N,...), the images first; each is resampled by itself to its own size.
        resamples: how often; below 2 there is no spread.

    Raises:
        ValueError: an empty set.
    """
    if any(not len(s) for s in sets):
        raise ValueError("n: there are no images to resample; ask for some")
    g = torch.Generator().manual_seed(seed)

    def recompute(some: Tensor) -> Tensor:
        return some[torch.randint(len(some), (len(some),), generator=g).to(some.device)]

    return Estimate.of(statistic(*sets), [statistic(*map(recompute, sets)) for _ in range(resamples)])


def mean(values: Tensor) -> float:
    """Of numbers or of yes and no."""
    return float(values.double().mean())
