"""Images drawn and values measured so far, kept on disk: a command that was stopped continues at the next one, and its
results are the same."""

import hashlib
import io
import json
import logging
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from ..errors import Stopped, StorageError
from ..files import override, read_json, read_regular, shown, write_atomically, write_json
from ..ours import DRAWN
from ..progress import plural
from ..signals import interruptible

log = logging.getLogger(__name__)
REQUEST = "request.json"
SPARE = 2**20
SEAL = hashlib.sha256().digest_size
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
        self.done, self._request = 0, ""
        self._values: KeptValues | None = None

    def begin(self, request: Mapping[str, Any], n: int, shape: tuple[int, ...]) -> list[Tensor]:
        """The images that an earlier call with the same request has drawn, in order.

        Raises:
            StorageError: the disk has no room for n images of this shape (C,H,W).
        """
        self._request = digest = _digest(request)
        if _digest_at(self._parts / REQUEST) != digest:
            _remove(self._parts.glob("*.*"))
        parts: list[Tensor] = []
        while (part := self._part(self.done, shape)) is not None and self.done < n:
            if self._on_batch:  # what it wrote then may be lost or damaged by now
                self._on_batch(self.done, part)
            parts.append(part)
            self.done += len(part)
        self._check_room((n - self.done) * int(np.prod(shape)))
        self._parts.mkdir(parents=True, exist_ok=True)
        write_json(self._parts / REQUEST, {"digest": digest})
        return parts

    def add(self, first: int, images: Tensor) -> None:
        """Keep a batch (B,C,H,W) uint8."""
        if self._on_batch:  # first, because a kept batch is not drawn again
            self._on_batch(first, images)
        path = self._parts / f"{first:07d}.npy"
        _write(path, f"{self._request} {first}", lambda file: np.save(file, images.cpu().numpy()))
        self.done = first + len(images)

    def values(self, request: Mapping[str, Any]) -> "KeptValues":
        """The values of images that an earlier call with the same request has measured."""
        self._values = KeptValues(self._parts / "values", _digest(request))
        return self._values

    @property
    def measured(self) -> int:
        """The number of images whose values are known."""
        return 0 if self._values is None else self._values.done

    def how_far(self) -> str:
        """For people: what an evaluation has done so far."""
        parts = [f"the bits/dim of {plural(self.measured, 'image')} measured"] if self.measured else []
        parts += [f"{plural(self.done, 'sample')} drawn"] if self.done else []
        return f"stopped, with {' and '.join(parts) or 'nothing measured yet'}"

    def discard(self) -> None:
        """Forget everything, at the end or for another request."""
        with suppress(OSError):
            shutil.rmtree(self._parts, ignore_errors=True)

    def _part(self, first: int, shape: tuple[int, ...]) -> Tensor | None:
        try:
            array = np.load(_read(self._parts / f"{first:07d}.npy", f"{self._request} {first}"), allow_pickle=False)
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


class KeptValues:
    """Values of images, batch by batch.

    Args:
        folder: where they are kept; None = nowhere.
        digest: of all that they depend on; those with another digest are removed.
    """

    def __init__(self, folder: Path | None = None, digest: str = ""):
        self._folder, self._request = folder, digest
        self.done = 0
        if folder is not None and _digest_at(folder / REQUEST) != digest:
            _remove(folder.glob("*.*"))
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / REQUEST, {"digest": digest})

    def known(self, first: int) -> dict[str, Tensor] | None:
        """The values of the batch whose first image has the index `first`, if they are kept."""
        if self._folder is None:
            return None
        try:
            raw = _read(self._folder / f"{first:07d}.npz", f"{self._request} {first}")
            with np.load(raw, allow_pickle=False) as file:
                return {name: torch.from_numpy(file[name]) for name in file.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            return None

    def batch(self, rows: range, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """The values of the images `rows`, by name, each with a first dimension for the images: kept or computed."""
        values = self.known(rows.start)
        if values is None:
            values = computed = compute()
            if self._folder is not None:
                arrays: dict[str, Any] = {name: value.numpy() for name, value in computed.items()}
                path = self._folder / f"{rows.start:07d}.npz"
                _write(path, f"{self._request} {rows.start}", lambda file: np.savez(file, **arrays))
        elif not self.done:
            log.info("continuing a measurement; the images before are kept")
        self.done = rows.stop
        return values


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


def _write(path: Path, what: str, write: Callable[[BinaryIO], None]) -> None:
    """Write a file that ends in a digest of its content and of `what` it is. Raises OSError."""
    buffer = io.BytesIO()
    write(buffer)
    raw = buffer.getvalue()
    write_atomically(path, lambda temporary: temporary.write_bytes(raw + _seal(raw, what)))


def _read(path: Path, what: str) -> io.BytesIO:
    """The content of such a file. Raises OSError, or ValueError if it is damaged or was written for something else."""
    raw = read_regular(path, most=2**50)  # a batch may be of any size
    content, seal = raw[:-SEAL], raw[-SEAL:]
    if _seal(content, what) != seal:
        raise ValueError("digest")
    return io.BytesIO(content)


def _seal(raw: bytes, what: str) -> bytes:
    return hashlib.sha256(what.encode() + b"\0" + raw).digest()


def _remove(files: Iterable[Path]) -> None:
    for file in files:
        with suppress(OSError):
            file.unlink()


def _digest(request: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(request, sort_keys=True, default=str).encode()).hexdigest()


def _digest_at(path: Path) -> str | None:
    try:
        return str(read_json(path)["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
