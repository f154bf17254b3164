"""How long threads that wait for one another spin before they sleep."""

import os
from pathlib import Path

SPINS, SPINS_OF_INTEL, FEW = 20_000, 6_000, 1_000
"""About a quarter of a millisecond: the pause between two looks is three times as long on Intel's processors."""


def settle(
    environment: os._Environ[str] | dict[str, str] = os.environ,
    load: Path = Path("/proc/loadavg"),
    cpu: Path = Path("/proc/cpuinfo"),
) -> None:
    """Set GOMP_SPINCOUNT for libgomp, which reads it when torch is imported; what the user has set stays.

    The layers of a small network take 0.1 ms, and threads that fell asleep in between have to be woken: a fifth slower
    and more. Left to itself, libgomp spins for some 10 ms; where others want the cores, that is 10 ms of doing nothing
    for each layer.
    """
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", str(_spins(load, cpu)))


def _spins(load: Path, cpu: Path) -> int:
    if _others(load) >= (os.cpu_count() or 1) / 2:
        return FEW
    return SPINS_OF_INTEL if "GenuineIntel" in _start_of(cpu) else SPINS


def _others(load: Path) -> int:
    """How many threads of other processes run at this moment; 0 where the system does not say."""
    fields = _start_of(load).split()
    running = fields[3].partition("/")[0] if len(fields) > 3 else ""
    return int(running) - 1 if running.isdigit() else 0


def _start_of(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(256)
    except OSError:
        return ""
