"""Settings of the host's memory allocator."""

import ctypes
import functools
import platform

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
"""Parameters of mallopt(3)."""


@functools.cache
def keep_freed_memory() -> bool:
    """Make glibc keep freed memory for the next tensor until the process ends. Returns whether that is possible.

    By default glibc returns large blocks to the system when they are freed and requests them again in the next layer,
    and each page then has to be mapped and cleared again: a tenth of a training step on a CPU. Without glibc, or with
    another allocator, this does nothing.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 2**26))
    return all([mallopt(name, value) == 1 for name, value in settings])
