"""Images drawn so far, kept on disk: a command that was stopped continues at the next one and draws the same images."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import Stopped, StorageError
from ..files import override, shown, write_atomically, write_json
from ..ours import DRAWN
from ..signals import interruptible

REQUEST = "request.json"
SPARE = 2**20
PER_PIXEL = 3.5
"""Bytes on disk per value of an image: kept here, in samples.npz, and at most as much as a PNG file."""


class Kept:
    """The folder `.drawn` in the folder of a command, while it draws.

    Args:
        folder: of the command.
        on_batch: called with the index of the first image and the images (B,C,H,W) uint8 of each batch.
    """

    def __init__(self, folder: Path, on_batch: Callable[[int, Tensor], None] | None = None):
        self.folder, self._parts, self._on_batch = folder, folder / DRAWN, on_batch
        self.done = 0

    def begin(self, request: Mapping[str, Any], n: int, shape: tuple[int, ...]) -> list[Tensor]:
        """The images that an earlier call with the same request has drawn, in order.

        Raises:
            StorageError: the disk has no room for n images of this shape (C,H,W).
        """
        digest = hashlib.sha256(json.dumps(request, sort_keys=True, default=str).encode()).hexdigest()
        if _digest_at(self._parts) != digest:
            self.discard()
        parts: list[Tensor] = []
        while (part := self._part(self.done, shape)) is not None and self.done < n:
            parts.append(part)
            self.done += len(part)
        self._check_room((n - self.done) * int(np.prod(shape)))
        self._parts.mkdir(parents=True, exist_ok=True)
        write_json(self._parts / REQUEST, {"digest": digest})
        return parts

    def add(self, first: int, images: Tensor) -> None:
        """Keep a batch (B,C,H,W) uint8."""

        def write(path: Path) -> None:
            with path.open("wb") as file:
                np.save(file, images.cpu().numpy())

        if self._on_batch:  # first, because a kept batch is not drawn again
            self._on_batch(first, images)
        write_atomically(self._parts / f"{first:07d}.npy", write)
        self.done = first + len(images)

    def discard(self) -> None:
        """Forget everything, at the end or for another request."""
        shutil.rmtree(self._parts, ignore_errors=True)

    def _part(self, first: int, shape: tuple[int, ...]) -> Tensor | None:
        try:
            array = np.load(self._parts / f"{first:07d}.npy", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        good = array.dtype == np.uint8 and array.shape[1:] == shape and len(array)
        return torch.from_numpy(array) if good else None

    def _check_room(self, values: int) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        needed, free = PER_PIXEL * values + SPARE, shutil.disk_usage(self.folder).free
        if free < needed:
            sizes = f"the images need about {needed / 2**20:,.0f} MiB, but it has {free / 2**20:,.0f} MiB free"
            raise StorageError(f"{shown(self.folder)}: {sizes}; free some space, or set another out")


@contextmanager
def stoppable(folder: Path, how: Callable[[], str]) -> Iterator[None]:
    """A signal ends the work inside the context with a line about `how` far it came, and how to continue in `folder`.

    Raises:
        Stopped: on a signal.
    """
    try:
        with interruptible():
            yield
    except KeyboardInterrupt as error:
        place = override("out", shown(folder))
        raise Stopped(getattr(error, "number", None), f"{shown(folder)}: {how()}", place) from None


def _digest_at(parts: Path) -> str | None:
    try:
        return str(json.loads((parts / REQUEST).read_text(encoding="utf-8"))["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
