"""How many OpenMP threads are used, and how long they spin while they wait for one another."""

import os
import time
from collections.abc import Callable
from pathlib import Path

from ..progress import plural

SPINS, SPINS_OF_INTEL, FEW = 20_000, 6_000, 1_000
"""The first two are about 0.25 ms: the pause between two checks is three times as long on Intel processors."""
LOAD, CPU, STAT = Path("/proc/loadavg"), Path("/proc/cpuinfo"), Path("/proc/stat")
CHOSEN = "DDPM_USABLE_CORES"
"""Set to the number of usable cores if OMP_NUM_THREADS was set here and not by the user."""
INTERVAL = 3.0
"""Seconds between two readings of the load."""
EXACT = "another number of threads rounds differently; set OMP_NUM_THREADS to keep it"
SAMPLES = 3


def set_spin_count(
    environment: os._Environ[str] | dict[str, str] = os.environ, load: Path = LOAD, cpu: Path = CPU
) -> str:
    """Set GOMP_SPINCOUNT for libgomp, which reads it when torch is imported. A value set by the user is kept.

    The layers of a small network take 0.1 ms, and waking threads that fell asleep between layers makes it at least a
    fifth slower. By default, libgomp spins for about 10 ms; if other programs need the cores, those are 10 ms wasted
    for each layer.

    If other programs use the cores, and the user has not set the number of threads, only the others are used.

    Returns:
        A line for the user about the number of threads if it is lower than that of the cores; otherwise "".
    """
    busy, cores = _busy_threads(load), os.cpu_count() or 1  # both of the whole machine
    crowded = busy > 0 and busy >= cores / 2
    if "OMP_WAIT_POLICY" not in environment:
        spins = FEW if crowded else SPINS_OF_INTEL if "GenuineIntel" in _start_of(cpu) else SPINS
        environment.setdefault("GOMP_SPINCOUNT", str(spins))
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores
    if not crowded or usable == 1 or "OMP_NUM_THREADS" in environment:
        return ""
    threads = max(1, usable - busy)
    environment["OMP_NUM_THREADS"] = str(threads)
    environment[CHOSEN] = str(usable)
    return f"{plural(threads, 'thread')}, because other programs use {min(busy, cores)} of {cores} cores; {EXACT}"


class LoadFollower:
    """Uses fewer threads while other processes use the cores: threads that wait for one another are many times slower.

    Only if the user has not set their number, and only on Linux, which tells how busy the cores are.

    Args:
        set_threads: sets the number of threads, torch.set_num_threads.
        threads: the present number.
    """

    def __init__(
        self,
        set_threads: Callable[[int], None],
        threads: int,
        environment: os._Environ[str] | dict[str, str] = os.environ,
        stat: Path = STAT,
    ):
        self._set, self.threads, self._stat = set_threads, threads, stat
        self.most = int(environment.get(CHOSEN, threads))
        free = CHOSEN in environment or "OMP_NUM_THREADS" not in environment
        self._before = self._reading() if free and self.most > 1 else None

    def follow(self) -> str:
        """Set the number of threads for the load since the last call. Returns a line for the user if it changes.

        To be called now and then; calls within `INTERVAL` seconds of the last reading do nothing.
        """
        if self._before is None or time.perf_counter() - self._before[0] < INTERVAL:
            return ""
        (began, busy, own), self._before = self._before, self._reading()
        if self._before is None:
            return ""
        now, busy_now, own_now = self._before
        others = max(0.0, (busy_now - busy) - (own_now - own)) / (now - began)
        threads = max(1, min(self.most, round((os.cpu_count() or 1) - others)))
        if threads == self.threads:
            return ""
        before, self.threads = self.threads, threads
        self._set(threads)
        return f"{plural(threads, 'thread')} instead of {before}, as other programs use {others:.1f} cores; {EXACT}"

    def _reading(self) -> tuple[float, float, float] | None:
        """The time, and the processor seconds that all processes and this one have used; None if unknown."""
        fields = _start_of(self._stat).partition("\n")[0].split()
        if len(fields) < 8 or fields[0] != "cpu" or not hasattr(os, "sysconf"):
            return None
        user, nice, system, _idle, _wait, *interrupts = map(int, fields[1:8])
        busy = (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")
        return time.perf_counter(), busy, time.process_time()


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
