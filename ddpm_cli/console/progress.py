"""Progress of long tasks: a bar, or a few plain lines if there is no terminal."""

import time
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from ..files import shown
from ..progress import Pace, duration, numbers
from .lines import escape, live, out, say
from .pictures import show_pictures
from .tables import show_choices

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

NARROW, SHORT = 100, ("loss", "accuracy", "images_per_second")
"""A terminal with fewer columns shows only these numbers beside the bar."""
SILENCE = 30.0
"""Without a terminal, seconds of training between progress lines when there are no log lines in between."""


class Counter:
    """Counts items of a named task (decoding files, network calls): a bar, or a few plain lines. Use as a context."""

    def __init__(self) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            console=out, transient=True,
        )  # fmt: skip
        self._tasks: dict[str, TaskID] = {}
        self._last_line: dict[str, float] = {}

    def __enter__(self) -> "Counter":
        return self

    def __exit__(self, *_: object) -> None:
        if self._tasks:
            self._bar.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Report that `done` of `total` items of the task `what` are done; `total` 0 = unknown."""
        if live(out):
            if what not in self._tasks:
                self._bar.start()
                self._tasks[what] = self._bar.add_task(escape(what), total=total or None)
            self._bar.update(self._tasks[what], completed=done, total=total or None)
        elif self._line_due(what, done, total):
            say(f"{what}: {done}/{total}" if total else f"{what}: {done}")

    def _line_due(self, what: str, done: int, total: int) -> bool:
        """Whether to print a line: at every tenth of the total, but at least five seconds after start or last line."""
        now = time.monotonic()
        last = self._last_line.setdefault(what, now)
        if now - last < 5 or (total and done < total and done % max(total // 10, 1)):
            return False
        self._last_line[what] = now
        return True


class TrainingView:
    """Shows a run in training: a live line with step, loss, images/s and time left; plain lines without a terminal."""

    def __init__(self, max_seconds: float | None = None, given: Collection[str] = ()):
        self.max_seconds, self.given = max_seconds, given
        self._last_numbers = ""
        self._pace = Pace(0, 0)
        self._last_shown = 0.0
        bar = BarColumn(bar_width=24 if out.width >= NARROW else 12)
        self._bar = Progress(
            TextColumn("step {task.fields[step]}"), bar, TaskProgressColumn(),
            TextColumn("{task.fields[numbers]}"), TextColumn("{task.fields[left]}"),
            console=out, refresh_per_second=4, transient=True,
        )  # fmt: skip
        self._task: TaskID | None = None

    def begin(self, config: Mapping[str, Any], folder: "Path") -> None:
        show_choices(config, self.given, f"ddpm train: {shown(folder)}", f"{shown(folder)}/config.json")

    def counting(self) -> Counter:
        return Counter()

    def start(self, step: int, total: int) -> None:
        self._pace = Pace(step, total, self.max_seconds)
        self._last_shown = time.monotonic()
        if live(out):
            if self._task is not None:  # the run has learned its number of steps
                return
            self._task = self._bar.add_task("", total=1.0, step=self._pace.place(step), numbers="", left="")
            self._bar.start()

    def advance(self, step: int, seconds: float) -> None:
        now = time.monotonic()
        if self._task is not None and now - self._last_shown > 0.2:
            self._last_shown = now
            fraction, left = self._pace.at(step, seconds)
            self._bar.update(self._task, completed=fraction, step=self._pace.place(step), left=f"{duration(left)} left")
        elif self._task is None and now - self._last_shown > SILENCE:
            self._last_shown = now
            say(f"step {self._pace.place(step)}: {duration(self._pace.at(step, seconds)[1])} left")

    def metrics(self, step: int, row: Mapping[str, Any]) -> None:
        if "best_step" in row:  # about another step than this one; shown as a note at the end of the run
            return
        text = numbers(row)
        fraction, left = self._pace.at(step, float(row.get("seconds", 0.0)))
        if self._task is not None:
            self._bar.update(self._task, completed=fraction, step=self._pace.place(step))
            if "loss" in row:
                self._bar.update(self._task, numbers=numbers(row, SHORT if out.width < NARROW else None))
                self._last_numbers = f"step {self._pace.place(step)}: {text}"
                if step >= self._pace.total > 0:
                    self._say_last()
            else:
                self._bar.console.print(f"step {step}: {text}")
        else:
            self._last_shown = time.monotonic()
            say(f"step {self._pace.place(step)}: {text}" + (f", {duration(left)} left" if "loss" in row else ""))

    def pictures(self, step: int, path: "Path", pixels: "Tensor", across: int | None) -> None:
        if self._task is not None:
            show_pictures(pixels, across, f"step {step}: samples in {shown(path)}", only_in_colour=True)
        else:
            say(f"step {self._pace.place(step)}: samples in {shown(path)}")

    def stop(self) -> None:
        if self._task is not None:
            self._bar.stop()
            self._task = None
            self._say_last()

    def _say_last(self) -> None:
        """Print the last numbers as a line, because the bar will go."""
        if self._last_numbers:
            self._bar.console.print(self._last_numbers, markup=False)
        self._last_numbers = ""
