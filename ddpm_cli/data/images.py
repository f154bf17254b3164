"""A set of pictures and its batches; each batch is a pure function of (seed, step)."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import DataError
from ..progress import plural
from .facts import DataFacts
from .feed import Host, RawBatch, Resident, fits, prefetched, send
from .mapped import Mapped
from .order import batch_indices


class Batch(NamedTuple):
    """x: (B,C,H,W) float32 in [-1, 1]; y: (B,) int64, all 0 when there are no classes."""

    x: Tensor
    y: Tensor


@dataclass(frozen=True, eq=False)
class Images:
    """Pictures on the host: in memory, or a selection of those in a memory-mapped file.

    Args:
        stored: (M,C,H,W) uint8, contiguous.
        labels: (N,) int64 in 0..classes-1; 0 when there are no classes.
        class_names: one per class; empty when there are none.
        flip: mirror each picture left to right with probability 1/2 in `batches` (never in `chunks`).
        rows: (N,) int64, the rows of `stored` that are the pictures; None = all of them, M = N.
        mapped: the file that holds `stored`; None = memory.
        facts: about the whole set, held-out pictures included; None = not known.
    """

    stored: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    flip: bool = False
    rows: Tensor | None = None
    mapped: Mapped | None = None
    facts: DataFacts | None = None

    def __post_init__(self) -> None:
        assert self.stored.dtype == torch.uint8 and self.stored.ndim == 4 and self.stored.is_contiguous()
        n = len(self.stored if self.rows is None else self.rows)
        assert self.labels.dtype == torch.int64 and self.labels.shape == (n,)

    def __repr__(self) -> str:
        channels, height, width = self.shape
        return (
            f"<{plural(len(self), 'image')} of {height}x{width}x{channels}, {plural(self.classes, 'class', 'classes')}>"
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        _, channels, height, width = self.stored.shape
        return channels, height, width

    @property
    def classes(self) -> int:
        """The number of classes; 0 = unlabelled."""
        return len(self.class_names)

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def pixels(self) -> Tensor:
        """(N,C,H,W) uint8. Copies a selection of a mapped file into memory; `raw`, `chunks` and `batches` do not."""
        return self._of(slice(0, len(self)))

    def _of(self, part: slice) -> Tensor:
        """Some of the pictures, in order. Raises DataError if one in a mapped file is damaged."""
        pixels = self.stored[part] if self.rows is None else self.stored.index_select(0, self.rows[part])
        if self.mapped is not None:
            rows = torch.arange(part.start, part.stop) if self.rows is None else self.rows[part]
            self.mapped.check(rows.numpy(), pixels.numpy())
        return pixels

    def take(self, n: int) -> "Images":
        """The first n pictures, or all if there are fewer."""
        return self._select(slice(max(n, 0)))

    def subset(self, indices: Tensor) -> "Images":
        """The pictures at `indices` (M,) int64, in that order. Copies pictures in memory, but not those in a file."""
        return self._select(indices)

    def _select(self, indices: Tensor | slice) -> "Images":
        if self.mapped is None and self.rows is None:
            return replace(self, stored=self.stored[indices], labels=self.labels[indices])
        rows = torch.arange(len(self)) if self.rows is None else self.rows
        return replace(self, labels=self.labels[indices], rows=rows[indices])

    def batches(self, size: int, seed: int, start: int = 0, device: torch.device | str = "cpu") -> Iterator[Batch]:
        """Batches start, start + 1, ... without end. Batch k depends only on (seed, k) and `size`; see `batch_indices`.

        Pictures that fit on a GPU stay there. If a batch must be read from a mapped file or sent to a GPU, a thread
        prefetches the next two; dropping the iterator stops it. For pictures in memory on a CPU there is no thread:
        gathering them takes less time than passing them between threads.

        Raises:
            DataError: there are no pictures.
            ValueError: size < 1 or start < 0.
        """
        if size < 1:
            raise ValueError(f"batch_size: must be at least 1, got {size}")
        if start < 0:
            raise ValueError(f"start: must be at least 0, got {start}")
        if not len(self):
            raise DataError("dataset: has no pictures to make batches of; add some or change dataset.val_fraction")
        target = torch.device(device)
        return (_batch(raw.to(target)) for raw in self._raw_batches(size, seed, start, target))

    def _raw_batches(self, size: int, seed: int, start: int, device: torch.device) -> Iterator[RawBatch]:
        indices = batch_indices(len(self), size, seed, start, self.flip)
        if fits(self, device):
            return map(Resident(self, device), indices)
        batches = map(Host(self, device.type == "cuda"), indices)
        return prefetched(batches) if self.mapped is not None or device.type == "cuda" else batches

    def raw(self, size: int) -> Iterator[Tensor]:
        """Every picture once, in order, (B,C,H,W) uint8 on the host, `size` at a time; the last part may be shorter."""
        for first in range(0, len(self), size):
            yield self._of(slice(first, min(first + size, len(self))))
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
    """The SHA-256 hex digest of (N,C,H,W) uint8 pixels, in order."""
    return hashlib.sha256(pixels.contiguous().numpy().tobytes()).hexdigest()


def _batch(raw: RawBatch) -> Batch:
    pixels = raw.pixels
    if raw.mirrored is not None:
        pixels = torch.where(raw.mirrored[:, None, None, None], pixels.flip(-1), pixels)
    return Batch(to_float(pixels), raw.labels)
