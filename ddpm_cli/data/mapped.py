"""Pictures in a memory-mapped file: the system reads the pages that are used and may drop them again."""

import mmap
import warnings
import zlib
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import DataError
from .survey import Survey

_KEPT = 64 * 2**20  # bytes of the file that may be resident in this process before they are released
_STATM = Path("/proc/self/statm")


class Mapped:
    """The array of a .npy file, mapped read-only.

    Pages that were read stay in the system's page cache, which the system can reclaim whenever other programs need the
    memory. But while they are mapped they also count as resident memory of this process. So they are unmapped now and
    then: reading them again only costs a lookup, and the process stays small however large the file is.

    Args:
        path: a file as written by numpy.save, uint8 with four dimensions.
        sums: (M,) uint32, the CRC-32 of each picture; None = they are not checked.

    Raises:
        OSError, ValueError: it cannot be read, or is not such a file.
    """

    def __init__(self, path: Path, sums: NDArray[np.uint32] | None = None):
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.memmap) or array.dtype != np.uint8 or array.ndim != 4:
            raise ValueError(f"{path}: is not an array of pictures")
        if sums is not None and len(sums) != len(array):
            raise ValueError(f"{path}: has {len(array)} pictures, not {len(sums)}")
        self.path, self._sums = path, sums
        self._checked = np.full(len(array), sums is None)
        self._file: mmap.mmap | None = getattr(array, "_mmap", None)
        self._least = _resident_file_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "not writable": nothing here writes to it
            self.pixels: Tensor = torch.from_numpy(array)

    def damaged(self, rows: NDArray[np.int64], pixels: NDArray[np.uint8]) -> int | None:
        """The first of `rows` (N,) whose picture, as read into `pixels` (N,C,H,W), does not have its checksum.

        Each picture is compared once.
        """
        for i in np.flatnonzero(~self._checked[rows]):
            assert self._sums is not None
            if zlib.crc32(np.ascontiguousarray(pixels[i]).data) != self._sums[rows[i]]:
                return int(rows[i])
        self._checked[rows] = True
        return None

    def check(self, rows: NDArray[np.int64], pixels: NDArray[np.uint8]) -> None:
        """Raises DataError if one of these pictures is `damaged`; the cache is not used again then.

        A cache of many pictures is not read as a whole before training, so the damage may show here only.
        """
        row = self.damaged(rows, pixels)
        if row is not None:
            with suppress(OSError):
                self.path.with_suffix(".json").unlink(missing_ok=True)
            raise DataError(
                f"{self.path}: picture {row} of the cache is damaged; run the same command again to make a new cache"
            )

    def pages_read(self) -> None:
        """Call this after reading pictures: it releases their pages once there are many."""
        held = _resident_file_bytes()
        self._least = min(self._least, held)
        if held - self._least > _KEPT:
            self.release()
            self._least = _resident_file_bytes()

    def release(self) -> None:
        """Unmap the pages that were read. Safe at any time, even while another thread reads."""
        if self._file is not None and hasattr(mmap, "MADV_DONTNEED"):  # a shared read-only map: nothing is lost
            self._file.madvise(mmap.MADV_DONTNEED)


class Decoded(NamedTuple):
    """kept: (N,) int64, the indices of the files that the pictures come from; the other fields as in `Images`.

    survey: of all files of the set, not only of the kept ones.
    """

    stored: Tensor
    kept: Tensor
    rows: Tensor | None = None
    mapped: Mapped | None = None
    survey: Survey = Survey()


def _resident_file_bytes() -> int:
    """Bytes of mapped files resident in this process; 0 if the system does not report it.

    It is measured, not computed, because Linux maps 64 KiB or 2 MiB around each page that is read.
    """
    try:
        with _STATM.open("rb") as file:
            return int(file.read().split()[2]) * mmap.PAGESIZE
    except (OSError, ValueError, IndexError):
        return 0
