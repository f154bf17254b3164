"""Progress of long operations. The operation calls a `Progress`; the caller decides how to show it."""

import math
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

FORMS = {
    "loss": "loss {:.4f}",
    "accuracy": "accuracy {:.1%}",
    "val_loss": "validation loss {:.4f}",
    "val_accuracy": "validation accuracy {:.1%}",
    "fd": "Frechet distance {:.3g}",
    "bits_per_dim": "{:.3f} bits/dim",
    "val_bits_per_dim": "validation {:.3f} bits/dim",
    "lr": "lr {:.1e}",
    "grad_norm": "grad {:.2f}",
    "images_per_second": "{:.0f} images/s",
}
Progress = Callable[[str, int, int], None]
"""Called with (description, done, total); total 0 = unknown."""


def silent(what: str, done: int, total: int) -> None:
    """A `Progress` that shows nothing."""


def counter(progress: Progress, steps: int, n: int) -> Callable[[int], None]:
    """A function to call with the number of images after each step; reports how many of n images are done."""
    done = 0

    def step(images: int) -> None:
        nonlocal done
        done += images
        progress("sampling", done // steps, n)

    return step


class Pace:
    """The speed of a run that started at `step` and ends after `total` steps or `max_seconds` of training.

    `total` is 0 while it is unknown; then there must be a `max_seconds`.
    """

    def __init__(self, step: int, total: int, max_seconds: float | None = None):
        self.total, self.max_seconds = total, max_seconds
        self._first, self._since = step, time.monotonic()

    def at(self, step: int, seconds: float) -> tuple[float, float]:
        """Fraction done, in [0, 1], and seconds left, until the steps or the time run out.

        Args:
            seconds: seconds of training so far, in all sessions together.
        """
        rate = (time.monotonic() - self._since) / max(step - self._first, 1)
        done, left = step / max(self.total, 1), (self.total - step) * rate
        if self.max_seconds is not None and step <= self._first:  # no speed yet
            left = math.inf
        if self.max_seconds is not None and self.total == 0:
            done, left = 0.0, math.inf
        if self.max_seconds is not None:
            done, left = max(done, seconds / self.max_seconds), min(left, self.max_seconds - seconds)
        return min(done, 1.0), max(left, 0.0)

    def place(self, step: int) -> str:
        """30 -> "30/1200"."""
        return f"{step}/{self.total}" if self.total else str(step)


def duration(seconds: float) -> str:
    """75 -> "1:15", 3675 -> "1:01:15"."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02}:{s:02}" if hours else f"{m}:{s:02}"


def numbers(row: Mapping[str, Any], only: Collection[str] | None = None) -> str:
    """A row of metrics.jsonl as text, or some of its numbers."""
    names = (name for name in FORMS if name in row and (only is None or name in only))
    return ", ".join(FORMS[name].format(row[name]) for name in names)


def plural(n: int, noun: str, many: str = "") -> str:
    """plural(1, "image") -> "1 image", plural(2000, "image") -> "2,000 images"; `many` = the plural if it is odd."""
    return f"{n:,} {noun if n == 1 else many or noun + 's'}"
