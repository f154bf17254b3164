"""Estimates the batch size that fits into memory."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

FRACTION = 0.8
"""The fraction of the host's memory that the estimate of a step may fill."""
LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Files with the memory limit of a container; not a number if there is no limit."""


def halved(size: int, fits: Callable[[int], bool]) -> int:
    """`size`, halved until it `fits`; 1 is returned without calling `fits`."""
    while size > 1 and not fits(size):
        size = (size + 1) // 2
    return size


def fits_by_estimate(per_image: float, weights: int, total: int) -> Callable[[int], bool]:
    """A function that tells whether a step on that many images stays below `FRACTION` of `total` bytes.

    Args:
        per_image: bytes saved for the backward pass per image.
        weights: bytes of all weights; gradients, both moments and the EMA take four times as much.
    """
    return lambda images: per_image * images + 5 * weights <= FRACTION * total


def host_memory() -> int | None:
    """Bytes of memory of the machine, or of the container if that is less; None = unknown.

    It is the total, not what is free now, so that the same command always chooses the same batch size.
    """
    sizes = []
    for file in LIMITS:
        try:
            sizes.append(int(Path(file).read_text(encoding="utf-8")))
        except (OSError, ValueError):
            continue
    if hasattr(os, "sysconf"):  # not on Windows
        with suppress(OSError, ValueError):
            sizes.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return min(sizes, default=None)
