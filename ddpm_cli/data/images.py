"""A set of pictures and its batches, each a pure function of (seed, step)."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import DataError
from .feed import Host, RawBatch, Resident, fits, prefetched, send
from .mapped import Mapped
from .order import batch_indices


class Batch(NamedTuple):
    """x: (B,C,H,W) float32 in [-1, 1]; y: (B,) int64, all 0 when there are no classes."""

    x: Tensor
    y: Tensor


@dataclass(frozen=True, eq=False)
class Images:
    """Pictures on the host: in memory, or a choice of those in a mapped file.

    Args:
        stored: (M,C,H,W) uint8, contiguous.
        labels: (N,) int64 in 0..classes-1; 0 when there are no classes.
        class_names: one per class; empty when there are none.
        flip: mirror half of the pictures left to right in `batches` (never in `chunks`).
        rows: (N,) int64, which of `stored` the pictures are; None = all of them, M = N.
        mapped: the file that `stored` lies in; None = memory.
    """

    stored: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    flip: bool = False
    rows: Tensor | None = None
    mapped: Mapped | None = None

    def __post_init__(self) -> None:
        assert self.stored.dtype == torch.uint8 and self.stored.ndim == 4 and self.stored.is_contiguous()
        n = len(self.stored if self.rows is None else self.rows)
        assert self.labels.dtype == torch.int64 and self.labels.shape == (n,)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        _, channels, height, width = self.stored.shape
        return channels, height, width

    @property
    def classes(self) -> int:
        """How many classes; 0 = unlabelled."""
        return len(self.class_names)

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def pixels(self) -> Tensor:
        """(N,C,H,W) uint8. Of a choice of a mapped file a copy in memory, which `raw`, `chunks` and `batches` avoid."""
        return self.stored if self.rows is None else self.stored.index_select(0, self.rows)

    def take(self, n: int) -> "Images":
        """The first n pictures; all when there are fewer."""
        return self._only(slice(max(n, 0)))

    def subset(self, indices: Tensor) -> "Images":
        """The pictures at `indices` (M,) int64, in that order: of pictures in memory a copy, else only their places."""
        return self._only(indices)

    def _only(self, which: Tensor | slice) -> "Images":
        if self.mapped is None and self.rows is None:
            return replace(self, stored=self.stored[which], labels=self.labels[which])
        rows = torch.arange(len(self)) if self.rows is None else self.rows
        return replace(self, labels=self.labels[which], rows=rows[which])

    def batches(self, size: int, seed: int, start: int = 0, device: torch.device | str = "cpu") -> Iterator[Batch]:
        """Batch start, start + 1, ... without end. Batch k depends only on (seed, k) and `size`; see `batch_indices`.

        Pictures that fit on a GPU stay there. Where a batch has to be read from a mapped file or sent to a GPU, a
        thread reads the next two while this one is used; dropping the iterator stops it. Pictures in memory for the
        CPU are gathered when they are asked for: that takes less time than handing them from thread to thread.

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
        target = torch.device(device)
        return (_batch(raw.to(target)) for raw in self._reads(size, seed, start, target))

    def _reads(self, size: int, seed: int, start: int, device: torch.device) -> Iterator[RawBatch]:
        drawn = batch_indices(len(self), size, seed, start, self.flip)
        if fits(self, device):
            return map(Resident(self, device), drawn)
        reads = map(Host(self, device.type == "cuda"), drawn)
        return prefetched(reads) if self.mapped is not None or device.type == "cuda" else reads

    def raw(self, size: int) -> Iterator[Tensor]:
        """Every picture once, in order, (B,C,H,W) uint8 on the host, `size` at a time; the last part may be shorter."""
        for first in range(0, len(self), size):
            rows = None if self.rows is None else self.rows[first : first + size]
            part = self.stored[first : first + size] if rows is None else self.stored.index_select(0, rows)
            yield part
            if self.mapped is not None:
                self.mapped.pages_read()

    def chunks(self, size: int, device: torch.device | str = "cpu") -> Iterator[Batch]:
        """Every picture once, in order, unflipped, `size` at a time; the last chunk may be shorter.

        Raises:
            ValueError: size < 1.
        """
        if size < 1:
            raise ValueError(f"batch_size: must be at least 1, got {size}")
        target = torch.device(device)
        for number, pixels in enumerate(self.raw(size)):
            labels = self.labels[number * size : (number + 1) * size]
            yield Batch(to_float(send(pixels, target)), send(labels, target))


def to_float(pixels: Tensor) -> Tensor:
    """uint8 in 0..255 -> float32 in [-1, 1], same shape and device; 0 and 255 map to -1 and 1 exactly."""
    return pixels.to(torch.float32).div_(127.5).sub_(1)


def pixels_sha256(pixels: Tensor) -> str:
    """Of (N,C,H,W) uint8, in order."""
    return hashlib.sha256(pixels.contiguous().numpy().tobytes()).hexdigest()


def _batch(raw: RawBatch) -> Batch:
    pixels = raw.pixels
    if raw.mirrored is not None:
        pixels = torch.where(raw.mirrored[:, None, None, None], pixels.flip(-1), pixels)
    return Batch(to_float(pixels), raw.labels)
