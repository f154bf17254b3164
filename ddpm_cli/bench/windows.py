"""Windows of time in which work is done again and again; works take turns, so that a busy machine slows them all."""

import time
from collections.abc import Callable, Mapping
from random import Random
from typing import NamedTuple

from ..progress import Progress


class Amount(NamedTuple):
    """What a window did: `amount` in the work's own unit (images, FLOP, network calls); `waiting` seconds for data."""

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
        """The share of the time that went into waiting for data."""
        return self.waiting / self.seconds


Workload = Callable[[float], Amount]
"""Works for at least so many seconds, to the end of a step."""


class Stopwatch(NamedTuple):
    """How often and how long work is timed.

    Args:
        windows: of each work.
        seconds: of a window.
        warmup: seconds of each work before the first window.
        synchronize: waits for the device, before a clock is read.
    """

    windows: int
    seconds: float
    warmup: float
    synchronize: Callable[[], None]

    def measure(self, work: Workload, seconds: float) -> Window:
        self.synchronize()
        began = time.perf_counter()
        done = work(seconds)
        self.synchronize()
        return Window(done.amount, done.waiting, time.perf_counter() - began)

    def rounds(self, works: Mapping[str, Workload], progress: Progress) -> dict[str, list[Window]]:
        """Each work once a round, in an order of its own each time, the same in every run.

        So what drifts favours none of them, and none always follows another, which leaves a hot processor behind.
        """
        for work in works.values():
            self.measure(work, self.warmup)
        found: dict[str, list[Window]] = {name: [] for name in works}
        for i in range(self.windows):
            for name in Random(i).sample(list(works), len(works)):
                found[name].append(self.measure(works[name], self.seconds))
            progress("measuring", i + 1, self.windows)
        return found


def repeated(step: Callable[[], Amount]) -> Workload:
    """`step` again and again until the time is up, at least once."""

    def work(seconds: float) -> Amount:
        ends = time.perf_counter() + seconds
        amount = waiting = 0.0
        while True:
            done = step()
            amount, waiting = amount + done.amount, waiting + done.waiting
            if time.perf_counter() >= ends:
                return Amount(amount, waiting)

    return work
