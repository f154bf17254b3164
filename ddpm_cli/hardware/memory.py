"""How many images at a time fit into memory."""

from collections.abc import Callable
from pathlib import Path

FRACTION = 0.8
"""Of the host's memory that a step may fill by estimate."""
LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Of a container; no number where there is none."""


def halved(size: int, fits: Callable[[int], bool]) -> int:
    """`size`, halved until it `fits`; 1 is not asked about."""
    while size > 1 and not fits(size):
        size = (size + 1) // 2
    return size


def fits_by_estimate(per_image: float, weights: int, total: int) -> Callable[[int], bool]:
    """Whether a step over so many images stays below `FRACTION` of `total` bytes.

    Args:
        per_image: bytes that the backward pass finds remembered.
        weights: bytes of all of them; gradients, moments and average are four times as many.
    """
    return lambda part: per_image * part + 5 * weights <= FRACTION * total


def host_memory() -> int | None:
    """Bytes of the machine, or of the container where that is less; None = not known. Not what is free at the moment:
    the same command must choose the same.
    """
    found = []
    for file in LIMITS:
        try:
            found.append(int(Path(file).read_text()))
        except (OSError, ValueError):
            continue
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemTotal:")]
    except (OSError, ValueError):
        pass
    return min(found, default=None)
