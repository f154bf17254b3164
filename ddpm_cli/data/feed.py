"""Moves the pictures of a batch to the device, and prefetches batches in a thread."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from .mapped import Mapped
from .order import BatchIndices

T = TypeVar("T")
_SHARE = 4  # resident pictures may take 1 / _SHARE of the device's free memory
_END: Any = object()


class StoredImages(Protocol):
    """The part of `Images` that this module reads."""

    @property
    def stored(self) -> Tensor: ...

    @property
    def labels(self) -> Tensor: ...

    @property
    def rows(self) -> Tensor | None: ...

    @property
    def mapped(self) -> Mapped | None: ...

    @property
    def shape(self) -> tuple[int, int, int]: ...

    def __len__(self) -> int: ...

    def raw(self, size: int) -> Iterator[Tensor]: ...


class RawBatch(NamedTuple):
    """pixels: (B,C,H,W) uint8; labels: (B,) int64; mirrored: (B,) bool or None. On the host or on the device."""

    pixels: Tensor
    labels: Tensor
    mirrored: Tensor | None

    def to(self, device: torch.device) -> "RawBatch":
        """The batch on `device`: copied asynchronously from pinned memory, unchanged if it is already there."""
        mirrored = None if self.mirrored is None else send(self.mirrored, device)
        return RawBatch(send(self.pixels, device), send(self.labels, device), mirrored)


def fits(images: StoredImages, device: torch.device) -> bool:
    """Whether all pictures may stay on `device`: it is a GPU and they take at most a quarter of its free memory."""
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return len(images) * images.stored[:1].numel() <= free // _SHARE


class Resident:
    """Keeps all pictures and labels on the device; only the indices of a batch are sent to it."""

    def __init__(self, images: StoredImages, device: torch.device):
        self.device = device
        self.labels = images.labels.to(device)
        self.pixels = torch.empty((len(images), *images.shape), dtype=torch.uint8, device=device)
        done = 0
        for part in images.raw(4096):  # in parts, so that the host needs no second copy of everything
            self.pixels[done : done + len(part)] = part.to(device)
            done += len(part)

    def __call__(self, indices: BatchIndices) -> RawBatch:
        chosen = send(indices.chosen, self.device)
        mirrored = None if indices.mirrored is None else send(indices.mirrored, self.device)
        return RawBatch(self.pixels.index_select(0, chosen), self.labels.index_select(0, chosen), mirrored)


class Host:
    """Gathers batches in host memory, pinned with `pinned`, so that a GPU can copy them asynchronously."""

    def __init__(self, images: StoredImages, pinned: bool):
        self.images, self.pinned = images, pinned
        self.array = images.stored.numpy()

    def __call__(self, indices: BatchIndices) -> RawBatch:
        chosen = indices.chosen if self.images.rows is None else self.images.rows[indices.chosen]
        pixels = torch.empty((len(chosen), *self.images.shape), dtype=torch.uint8, pin_memory=self.pinned)
        # NumPy uses one thread; OpenMP threads would compete with the training step for the cores
        np.take(self.array, chosen.numpy(), axis=0, out=pixels.numpy(), mode="clip")
        if self.images.mapped is not None:
            self.images.mapped.check(chosen.numpy(), pixels.numpy())
            self.images.mapped.pages_read()
        labels, mirrored = self.images.labels[indices.chosen], indices.mirrored
        if self.pinned:
            labels, mirrored = labels.pin_memory(), None if mirrored is None else mirrored.pin_memory()
        return RawBatch(pixels, labels, mirrored)


def prefetched(items: Iterator[T], depth: int = 2) -> Iterator[T]:
    """The same items in the same order; a thread makes up to `depth` of them in advance.

    An exception raised while making an item is raised here when that item is due. Closing or dropping the iterator
    stops the thread.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
    pending: deque[Future[T]] = deque()
    try:
        while True:
            while len(pending) < depth:
                pending.append(pool.submit(next, items, _END))
            item = pending.popleft().result()
            if item is _END:
                return
            yield item
    finally:
        pool.shutdown(cancel_futures=True)


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """`tensor` on `device`."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        # pinned memory lets the copy overlap with the running step
        return (tensor if tensor.is_pinned() else tensor.pin_memory()).to(device, non_blocking=True)
    return tensor.to(device)
