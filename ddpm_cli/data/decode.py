"""Decodes many picture files into one uint8 array, in parallel (Pillow releases the interpreter lock)."""

import errno
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import UnidentifiedImageError
from torch import Tensor

from ..errors import DataError
from ..progress import Progress
from ..text import printable
from .convert import picture
from .formats import lacking_package, opened
from .parallel import by_threads
from .survey import Ends

BLOCK = 32
"""Files per task: few enough for smooth progress, many enough to make the overhead of a task negligible."""
GONE = os.strerror(errno.ENOENT)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Decoder:
    """Turns picture files into (C,H,W) uint8 arrays, see `convert.picture`.

    Args:
        skip_damaged: leave unreadable files out.
        skip_missing: leave files out that no longer exist, as those of a folder that is being changed.
    """

    height_width: tuple[int, int]
    channels: int
    crop: bool = True
    skip_damaged: bool = False
    ends: Ends | None = None
    everywhere: bool = False
    skip_missing: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return (self.channels, *self.height_width)

    def __call__(self, files: Sequence[Path], progress: Progress | None = None) -> tuple[Tensor, Tensor]:
        """(N,C,H,W) uint8 pixels in memory, and the indices of their files, (N,) int64 ascending.

        Raises:
            DataError: a file is not a readable picture; with `skip_damaged` it is left out and logged instead.
        """
        pixels = np.empty((len(files), *self.shape), dtype=np.uint8)
        damaged: dict[int, str] = {}

        def block(number: int) -> dict[int, str]:
            low = number * BLOCK
            return self.block(files[low : low + BLOCK], pixels[low : low + BLOCK], low)

        with quiet(), closing(by_threads(block, -(-len(files) // BLOCK))) as blocks:
            for done, reasons in enumerate(blocks, start=1):
                self.refuse(files, reasons)
                damaged |= reasons
                if progress:
                    progress("decoding", min(done * BLOCK, len(files)), len(files))
        kept = self.good(files, range(len(files)), damaged)
        return torch.from_numpy(pixels[kept.numpy()] if damaged else pixels), kept

    def block(self, files: Sequence[Path], out: np.ndarray, first: int = 0) -> dict[int, str]:
        """Decode `files` into `out` (n,C,H,W). Returns index -> reason for unreadable files, numbered from `first`."""
        damaged = {}
        for i, file in enumerate(files):
            try:
                with opened(file) as image:
                    out[i] = picture(image, self.height_width, self.channels, self.crop, self.ends, self.everywhere)
            except MemoryError:
                raise
            except Exception as error:  # a damaged file makes Pillow raise nearly anything
                damaged[first + i] = _reason(error, file)
        return damaged

    def refuse(self, files: Sequence[Path], damaged: Mapping[int, str]) -> None:
        """Raises DataError for the first damaged file, unless `skip_damaged`."""
        for i in sorted(damaged):
            if not self.skip_damaged and not (self.skip_missing and damaged[i] == GONE):
                advice = "remove it or set dataset.skip_damaged=true"
                raise DataError(f"{printable(str(files[i]))}: is not a readable picture ({damaged[i]}); {advice}")

    def good(self, files: Sequence[Path], chosen: Sequence[int], damaged: Mapping[int, str]) -> Tensor:
        """The readable files of `chosen`, (N,) int64. Logs those that are left out, or raises as `refuse` does."""
        bad = {i: damaged[i] for i in chosen if i in damaged}
        self.refuse(files, bad)
        if bad:
            names = ", ".join(printable(str(files[i])) for i in list(bad)[:3]) + (", ..." if len(bad) > 3 else "")
            _log.warning("left out %d of %d pictures that cannot be read: %s", len(bad), len(chosen), names)
        return torch.tensor([i for i in chosen if i not in bad], dtype=torch.int64)


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress warnings about large pictures and odd metadata. Pillow still refuses pictures of twice its size limit.

    Use it around all threads or processes that decode, because it is not safe inside them.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _reason(error: Exception, file: Path) -> str:
    if isinstance(error, UnidentifiedImageError):  # its text repeats the path
        return lacking_package(file) or "unknown format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__
