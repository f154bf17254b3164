"""Where the memory of tensors on the host comes from."""

import ctypes
import functools
import platform

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
"""Parameters of mallopt(3)."""


@functools.cache
def keep_freed_memory() -> bool:
    """Have glibc keep what is freed for the next tensor, until the process ends. True where that is possible.

    By itself it returns large blocks to the system at once and asks for them again in the next layer, and every page
    of them has then to be mapped and cleared once more: a tenth of a training step on a CPU. Elsewhere, and where
    another allocator is loaded, nothing happens.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 2**26))
    return all([mallopt(name, value) == 1 for name, value in settings])
