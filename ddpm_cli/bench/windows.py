"""Measures workloads in windows of time. Workloads take turns, so that a busy machine slows all of them alike."""

import time
from collections.abc import Callable, Mapping
from random import Random
from typing import NamedTuple

from ..progress import Progress


class Amount(NamedTuple):
    """The work done: `amount` in the workload's unit (images, FLOP, network calls); `waiting`: seconds for data."""

    amount: float
    waiting: float = 0.0


class Window(NamedTuple):
    amount: float
    waiting: float
    seconds: float

    @property
    def rate(self) -> float:
        """Amount per second."""
        return self.amount / self.seconds

    @property
    def waited(self) -> float:
        """The share of the time spent waiting for data."""
        return self.waiting / self.seconds


Workload = Callable[[float], Amount]
"""Repeats steps for at least the given seconds and returns the work done."""


class Stopwatch(NamedTuple):
    """How often and how long workloads are measured.

    Args:
        windows: number of windows per workload.
        seconds: length of a window.
        warmup: seconds of each workload before the first window.
        synchronize: waits for the device; called before the clock is read.
    """

    windows: int
    seconds: float
    warmup: float
    synchronize: Callable[[], None]

    def measure(self, workload: Workload, seconds: float) -> Window:
        self.synchronize()
        began = time.perf_counter()
        done = workload(seconds)
        self.synchronize()
        return Window(done.amount, done.waiting, time.perf_counter() - began)

    def rounds(self, workloads: Mapping[str, Workload], progress: Progress) -> dict[str, list[Window]]:
        """Measure each workload once per round, in a random order that is the same in every run.

        So slow changes of the machine affect all workloads alike, and none always follows the same one, which may leave
        a hot processor behind.
        """
        for workload in workloads.values():
            self.measure(workload, self.warmup)
        windows: dict[str, list[Window]] = {name: [] for name in workloads}
        for i in range(self.windows):
            for name in Random(i).sample(list(workloads), len(workloads)):  # noqa: S311 (an order, no secret)
                windows[name].append(self.measure(workloads[name], self.seconds))
            progress("measuring", i + 1, self.windows)
        return windows


def repeated(step: Callable[[], Amount]) -> Workload:
    """A workload that repeats `step` until the time is up, at least once."""

    def workload(seconds: float) -> Amount:
        ends = time.perf_counter() + seconds
        amount = waiting = 0.0
        while True:
            done = step()
            amount, waiting = amount + done.amount, waiting + done.waiting
            if time.perf_counter() >= ends:
                return Amount(amount, waiting)

    return workload
