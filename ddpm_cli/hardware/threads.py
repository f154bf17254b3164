"""The processor's cores, which others may be using too: how long threads spin, and a word to the user."""

import os
import time
from pathlib import Path

SPINS, SPINS_OF_INTEL, FEW = 20_000, 6_000, 1_000
"""About a quarter of a millisecond: the pause between two looks is three times as long on Intel's processors."""
LOAD, CPU = Path("/proc/loadavg"), Path("/proc/cpuinfo")
SAMPLES = 3


def set_spin_count(
    environment: os._Environ[str] | dict[str, str] = os.environ, load: Path = LOAD, cpu: Path = CPU
) -> str:
    """Set GOMP_SPINCOUNT for libgomp, which reads it when torch is imported; what the user has set stays.

    The layers of a small network take 0.1 ms, and threads that fell asleep in between have to be woken: a fifth slower
    and more. Left to itself, libgomp spins for some 10 ms; where others want the cores, that is 10 ms of doing nothing
    for each layer.

    Returns:
        What to tell the user when others are at work and threads will wait for one another; else "".
    """
    others, cores = _busy_threads(load), os.cpu_count() or 1  # both of the whole machine
    crowded = others > 0 and others >= cores / 2
    if "OMP_WAIT_POLICY" not in environment:
        spins = FEW if crowded else SPINS_OF_INTEL if "GenuineIntel" in _start_of(cpu) else SPINS
        environment.setdefault("GOMP_SPINCOUNT", str(spins))
    ours = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores
    if not crowded or ours == 1 or "OMP_NUM_THREADS" in environment:
        return ""
    return (
        f"others are using {others} of {cores} cores, and threads that wait for one another become many times slower; "
        f"with OMP_NUM_THREADS={ours // 2} before each command they keep out of each other's way"
    )


def _busy_threads(load: Path) -> int:
    """How many threads of other processes run, the least of some looks; 0 where the system does not say."""
    least = _running(load)
    for _ in range(SAMPLES - 1):
        if least > 0:
            time.sleep(0.005)
            least = min(least, _running(load))
    return max(least, 0)


def _running(load: Path) -> int:
    fields = _start_of(load).split()
    running = fields[3].partition("/")[0] if len(fields) > 3 else ""
    return int(running) - 1 if running.isdigit() else 0


def _start_of(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(256)
    except OSError:
        return ""
