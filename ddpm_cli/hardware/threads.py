"""How long OpenMP threads spin while they wait, and a warning when other programs use the cores."""

import os
import time
from pathlib import Path

SPINS, SPINS_OF_INTEL, FEW = 20_000, 6_000, 1_000
"""The first two are about 0.25 ms: the pause between two checks is three times as long on Intel processors."""
LOAD, CPU = Path("/proc/loadavg"), Path("/proc/cpuinfo")
SAMPLES = 3


def set_spin_count(
    environment: os._Environ[str] | dict[str, str] = os.environ, load: Path = LOAD, cpu: Path = CPU
) -> str:
    """Set GOMP_SPINCOUNT for libgomp, which reads it when torch is imported. A value set by the user is kept.

    The layers of a small network take 0.1 ms, and waking threads that fell asleep between layers makes it at least a
    fifth slower. By default, libgomp spins for about 10 ms; if other programs need the cores, those are 10 ms wasted
    for each layer.

    Returns:
        A warning for the user if other programs use the cores, so that threads will wait for one another; otherwise "".
    """
    busy, cores = _busy_threads(load), os.cpu_count() or 1  # both of the whole machine
    crowded = busy > 0 and busy >= cores / 2
    if "OMP_WAIT_POLICY" not in environment:
        spins = FEW if crowded else SPINS_OF_INTEL if "GenuineIntel" in _start_of(cpu) else SPINS
        environment.setdefault("GOMP_SPINCOUNT", str(spins))
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores
    if not crowded or usable == 1 or "OMP_NUM_THREADS" in environment:
        return ""
    return (
        f"other programs are using {min(busy, cores)} of {cores} cores, and threads that wait for one another can "
        f"become many times slower; put OMP_NUM_THREADS={usable // 2} in front of each command to use fewer cores"
    )


def _busy_threads(load: Path) -> int:
    """The number of running threads of other processes, the least of `SAMPLES` readings; 0 if unknown."""
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
