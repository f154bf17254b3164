"""Many picture files to one uint8 array, in parallel (Pillow decodes outside the interpreter lock)."""

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from ..errors import DataError
from .convert import picture
from .images import Progress

_BLOCK = 32  # files per task: few enough for smooth progress, enough to make a task's own cost vanish
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Decoder:
    """How to turn one file into (C,H,W) uint8, see `convert.picture`."""

    height_width: tuple[int, int]
    channels: int
    crop: bool = True
    skip_damaged: bool = False

    def __call__(self, files: Sequence[Path], progress: Progress | None = None) -> tuple[Tensor, Tensor]:
        """(N,C,H,W) uint8 pixels, and which of `files` they are, (N,) int64 ascending.

        Raises:
            DataError: a file is not a readable picture, unless `skip_damaged`, which leaves it out and logs it.
        """
        pixels = np.empty((len(files), self.channels, *self.height_width), dtype=np.uint8)
        good = np.ones(len(files), dtype=bool)

        def block(low: int) -> None:
            for i in range(low, min(low + _BLOCK, len(files))):
                good[i] = self._one(files[i], pixels[i])

        with warnings.catch_warnings(), _threads() as pool:
            # large pictures are welcome (beyond twice the limit Pillow still refuses), odd metadata too
            warnings.simplefilter("ignore")
            for done, _ in enumerate(pool.map(block, range(0, len(files), _BLOCK)), start=1):
                if progress:
                    progress("decoding", min(done * _BLOCK, len(files)), len(files))
        kept = np.flatnonzero(good)
        if len(kept) < len(files):
            _log.warning("left out %d of %d pictures that cannot be read: %s", *_left_out(files, good))
            pixels = pixels[kept]
        return torch.from_numpy(pixels), torch.from_numpy(kept)

    def _one(self, file: Path, out: np.ndarray) -> bool:
        try:
            with Image.open(file) as image:
                out[:] = picture(image, self.height_width, self.channels, self.crop)
        except MemoryError:
            raise
        except Exception as error:  # a damaged file makes Pillow raise nearly anything
            if self.skip_damaged:
                return False
            advice = "remove it or set dataset.skip_damaged=true"
            raise DataError(f"{file}: is not a readable picture ({_reason(error)}); {advice}") from error
        return True


def _left_out(files: Sequence[Path], good: np.ndarray) -> tuple[int, int, str]:
    """How many, of how many, and the first names."""
    bad = [str(files[i]) for i in np.flatnonzero(~good).tolist()]
    return len(bad), len(files), ", ".join(bad[:3]) + (", ..." if len(bad) > 3 else "")


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):  # its text repeats the path
        return "unknown format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def _threads() -> Iterator[ThreadPoolExecutor]:
    affinity = getattr(os, "sched_getaffinity", None)  # what a container or Slurm leaves us, not what the box has
    pool = ThreadPoolExecutor(min(len(affinity(0)) if affinity else os.cpu_count() or 1, 32))
    try:
        yield pool
    finally:  # an error or Ctrl-C must not wait for the files still queued
        pool.shutdown(cancel_futures=True)
