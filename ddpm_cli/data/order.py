"""Which pictures a batch holds and which of them are mirrored: pure functions of (seed, step)."""

from collections.abc import Iterator
from itertools import count
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

_ORDER, _FLIP = 0, 1  # tags that keep the two uses of one seed apart


class BatchIndices(NamedTuple):
    """chosen: (B,) int64 places in the set; mirrored: (B,) bool, None when nothing is ever mirrored."""

    chosen: Tensor
    mirrored: Tensor | None


def batch_indices(n: int, size: int, seed: int, start: int, flip: bool) -> Iterator[BatchIndices]:
    """BatchIndices start, start + 1, ... of `size` of `n` pictures, without end.

    The samples are the epochs' permutations one after another, of which draw k is the positions k*size up to
    (k+1)*size: it may straddle epochs, and every picture is seen exactly once in each, also when size > n.
    """
    order = _Order(n, seed)
    for k in count(start):
        mirrored = torch.rand(size, generator=_generator(seed, k, _FLIP)) < 0.5 if flip else None
        yield BatchIndices(order.positions(k * size, (k + 1) * size), mirrored)


class _Order:
    """The endless stream of picture indices: epoch e is its own permutation. Only the newest one is kept."""

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
    return torch.Generator().manual_seed(int(state[0]) >> 1)  # manual_seed takes 63 bits on every version
