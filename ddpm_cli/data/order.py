"""The pictures in each batch and which of them are mirrored, as pure functions of (seed, step)."""

from collections.abc import Iterator
from itertools import count
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

_ORDER, _FLIP = 0, 1  # tags that separate the two uses of one seed


class BatchIndices(NamedTuple):
    """chosen: (B,) int64 indices into the dataset; mirrored: (B,) bool, or None if nothing is ever mirrored."""

    chosen: Tensor
    mirrored: Tensor | None


def batch_indices(n: int, size: int, seed: int, start: int, flip: bool) -> Iterator[BatchIndices]:
    """The indices of batches start, start + 1, ... of `size` out of `n` pictures, without end.

    The stream of pictures is one permutation per epoch, one after another; batch k is the positions k*size to
    (k+1)*size - 1 of it. A batch may straddle epochs, and every epoch has each picture exactly once, even if size > n.
    """
    order = _Order(n, seed)
    for k in count(start):
        mirrored = torch.rand(size, generator=_generator(seed, k, _FLIP)) < 0.5 if flip else None
        yield BatchIndices(order.positions(k * size, (k + 1) * size), mirrored)


class _Order:
    """The endless stream of picture indices: each epoch is a permutation of its own. Only the latest is kept."""

    def __init__(self, n: int, seed: int):
        self.n, self.seed = n, seed
        self.epoch, self.permutation = -1, torch.empty(0, dtype=torch.int64)

    def positions(self, low: int, high: int) -> Tensor:
        """Indices at stream positions low..high-1, (high - low,) int64."""
        parts = []
        while low < high:
            epoch, offset = divmod(low, self.n)
            if epoch != self.epoch:
                generator = _generator(self.seed, epoch, _ORDER)
                self.epoch, self.permutation = epoch, torch.randperm(self.n, generator=generator)
            parts.append(self.permutation[offset : offset + high - low])
            low += len(parts[-1])
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def _generator(seed: int, index: int, tag: int) -> torch.Generator:
    state = np.random.SeedSequence([seed % 2**64, index, tag]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]) >> 1)  # manual_seed accepts 63 bits in every version
