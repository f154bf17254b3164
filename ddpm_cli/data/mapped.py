"""Pictures in a file that is mapped into memory: the system reads what is looked at, and may forget it again."""

import mmap
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

_KEPT = 64 * 2**20  # bytes of the file that may lie in this process's memory before they are let go
_STATM = Path("/proc/self/statm")


class Mapped:
    """The array of a .npy file, mapped read-only.

    What was read stays in the system's page cache, which other programs may have whenever they need the memory; but it
    also counts as resident memory of this process as long as it is mapped. So it is unmapped now and then, which costs
    nothing but a lookup when it is read again, and the process stays as small as it was, however large the file.

    Args:
        path: a file that numpy.save could have written, uint8, four dimensions.

    Raises:
        OSError, ValueError: it cannot be read, or is no such file.
    """

    def __init__(self, path: Path):
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.memmap) or array.dtype != np.uint8 or array.ndim != 4:
            raise ValueError(f"{path}: is not an array of pictures")
        self.path = path
        self._file: mmap.mmap | None = getattr(array, "_mmap", None)
        self._least = _resident_file_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "not writable", and nobody writes
            self.pixels: Tensor = torch.from_numpy(array)

    def pages_read(self) -> None:
        """Say that pictures have been read, so that their pages are let go when they have become many."""
        held = _resident_file_bytes()
        self._least = min(self._least, held)
        if held - self._least > _KEPT:
            self.release()
            self._least = _resident_file_bytes()

    def release(self) -> None:
        """Unmap what was read. Safe at any time, also while another thread reads."""
        if self._file is not None and hasattr(mmap, "MADV_DONTNEED"):  # a shared read-only map: nothing is lost
            self._file.madvise(mmap.MADV_DONTNEED)


class Decoded(NamedTuple):
    """kept: (N,) int64, which of the files the pictures are; the rest as in `Images`."""

    stored: Tensor
    kept: Tensor
    rows: Tensor | None = None
    mapped: Mapped | None = None


def _resident_file_bytes() -> int:
    """Bytes of files in this process's memory; 0 where the system does not say.

    Measured rather than computed: with each page that is read, Linux also maps 64 KiB or 2 MiB around it.
    """
    try:
        with _STATM.open("rb") as file:
            return int(file.read().split()[2]) * mmap.PAGESIZE
    except (OSError, ValueError, IndexError):
        return 0
