"""A set of pictures in memory and its batches, each a pure function of (seed, step)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError

Progress = Callable[[str, int, int], None]
"""Called as (what, done, total); total 0 = unknown."""

_ORDER, _FLIP = 0, 1  # tags that keep the two uses of one seed apart


class Batch(NamedTuple):
    """x: (B,C,H,W) float32 in [-1, 1]; y: (B,) int64, all 0 when there are no classes."""

    x: Tensor
    y: Tensor


@dataclass(frozen=True, eq=False)
class Images:
    """Pictures on the host.

    Args:
        pixels: (N,C,H,W) uint8, contiguous.
        labels: (N,) int64 in 0..classes-1; 0 when there are no classes.
        class_names: one per class; empty when there are none.
        flip: mirror half of the pictures left to right in `batches` (never in `chunks`).
    """

    pixels: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    flip: bool = False

    def __post_init__(self) -> None:
        assert self.pixels.dtype == torch.uint8 and self.pixels.ndim == 4 and self.pixels.is_contiguous()
        assert self.labels.dtype == torch.int64 and self.labels.shape == self.pixels.shape[:1]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        _, channels, height, width = self.pixels.shape
        return channels, height, width

    @property
    def classes(self) -> int:
        """How many classes; 0 = unlabelled."""
        return len(self.class_names)

    def __len__(self) -> int:
        return len(self.pixels)

    def take(self, n: int) -> "Images":
        """The first n pictures; all when there are fewer."""
        return replace(self, pixels=self.pixels[: max(n, 0)], labels=self.labels[: max(n, 0)])

    def subset(self, indices: Tensor) -> "Images":
        """The pictures at `indices` (M,) int64, in that order."""
        return replace(self, pixels=self.pixels[indices], labels=self.labels[indices])

    def batches(self, size: int, seed: int, start: int = 0, device: torch.device | str = "cpu") -> Iterator[Batch]:
        """Batch start, start + 1, ... without end. Batch k depends on (seed, k) and `size` only.

        The samples are the epochs' permutations one after another, of which batch k is the positions k*size up to
        (k+1)*size: it may straddle epochs, and every picture is seen exactly once in each, also when size > N.

        Raises:
            DataError: there are no pictures.
            ValueError: size < 1 or start < 0.
        """
        if size < 1:
            raise ValueError(f"batch_size: must be at least 1, got {size}")
        if start < 0:
            raise ValueError(f"start: must be at least 0, got {start}")
        if not len(self):
            raise DataError("dataset: has no pictures to draw batches from; add some or change dataset.val_fraction")
        return self._batches(size, seed, start, torch.device(device))

    def _batches(self, size: int, seed: int, start: int, device: torch.device) -> Iterator[Batch]:
        order = _Order(len(self), seed)
        for k in count(start):
            pixels, labels = self._gather(order.positions(k * size, (k + 1) * size), device)
            if self.flip:
                mirrored = _send(torch.rand(size, generator=_generator(seed, k, _FLIP)) < 0.5, device)
                pixels = torch.where(mirrored[:, None, None, None], pixels.flip(-1), pixels)
            yield Batch(to_float(pixels), labels)

    def chunks(self, size: int, device: torch.device | str = "cpu") -> Iterator[Batch]:
        """Every picture once, in order, unflipped, `size` at a time; the last chunk may be shorter.

        Raises:
            ValueError: size < 1.
        """
        if size < 1:
            raise ValueError(f"batch_size: must be at least 1, got {size}")
        target = torch.device(device)
        for pixels, labels in zip(self.pixels.split(size), self.labels.split(size), strict=True):
            if len(pixels):  # splitting nothing gives one empty part
                yield Batch(to_float(_send(pixels, target)), _send(labels, target))

    def _gather(self, indices: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
        # the bytes cross to the device as uint8, a quarter of the float's traffic
        pinned = device.type == "cuda"
        pixels = torch.empty((len(indices), *self.shape), dtype=torch.uint8, pin_memory=pinned)
        torch.index_select(self.pixels, 0, indices, out=pixels)
        return pixels.to(device, non_blocking=pinned), _send(self.labels[indices], device)


def to_float(pixels: Tensor) -> Tensor:
    """uint8 in 0..255 -> float32 in [-1, 1], same shape and device; 0 and 255 map to -1 and 1 exactly."""
    return pixels.to(torch.float32).div_(127.5).sub_(1)


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


def _send(tensor: Tensor, device: torch.device) -> Tensor:
    if device.type == "cuda":  # pinned memory lets the copy overlap with the running step
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
