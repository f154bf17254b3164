"""Everything that appears in the terminal. The only module that prints, and the only one that knows rich."""

import logging
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.color import Color
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.style import Style
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from .files import shown
from .progress import Pace, duration, numbers

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor


WIDEST = 1000
"""More characters than any table has."""
PREVIEW = 36
"""Height of a preview in pixels; two to a line where there is colour."""
SILENCE = 30.0
"""Seconds of training after which a line without a terminal says how far it is, where steps are slow."""
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def say(text: str) -> None:
    """One line on stdout, as it is."""
    out.print(text, markup=False, soft_wrap=True)


def note(text: str) -> None:
    """One line on stdout, with a mark that sets it apart from log lines."""
    out.print(f"[bold cyan]>[/] {escape(text)}", soft_wrap=True)


def error(text: str) -> None:
    """The one line that a failed command leaves on stderr."""
    one_line = " ".join(text.split())
    err.print(Text.assemble(("ddpm: error: ", "bold red"), one_line), soft_wrap=True)


def usage(commands: Mapping[str, str]) -> None:
    """What `ddpm` alone answers."""
    out.print("[bold]ddpm[/]: train, sample and animate diffusion models from composed YAML\n")
    out.print("usage: ddpm COMMAND [group=choice ...] [key=value ...] [-m]\n", markup=False)
    table = Table(box=None, show_header=False, padding=(0, 0, 0, 2))
    for name, about in commands.items():
        table.add_row(f"[bold]{name}[/]", escape(about))
    out.print(table)
    out.print(
        "\nexamples:\n"
        "  ddpm train                                  handwritten digits, a minute or two on a laptop\n"
        "  ddpm train dataset=image_folder dataset.root=pictures dataset.size=64\n"
        "  ddpm train -m schedule=linear,cosine        a sweep: one run directory each\n"
        "  ddpm sample n=64                            from the newest run; ckpt=RUN picks another\n"
        "  ddpm gif                                    its denoising as an animation\n"
        "\n'ddpm COMMAND --help' shows every group and key, '--cfg job' the composed config.\n"
        'Tab completion for bash: eval "$(ddpm -sc install=bash)"',
        markup=False,
        soft_wrap=True,
    )


class Help(NamedTuple):
    """groups: (name, choices, those taken). keys: (dotted name, value, comment)."""

    command: str
    about: str
    groups: list[tuple[str, list[str], list[str]]]
    keys: list[tuple[str, str, str]]


def show_help(about: Help) -> None:
    """Groups with their choices, the one taken in bold; then keys, values and what they mean."""
    out.print(f"[bold]ddpm {about.command}[/]: {escape(about.about)}\n", soft_wrap=True)
    out.print(f"usage: ddpm {about.command} [group=choice ...] [key=value ...] [-m]\n", markup=False)
    out.print("[bold]groups[/] (group=choice; the one taken now is marked)")
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 2))
    for group, choices, taken in about.groups:
        marked = (f"[bold green]*{escape(c)}[/]" if c in taken else escape(c) for c in choices)
        table.add_row(f"[cyan]{group}[/]", "  ".join(marked))
    out.print(table)
    out.print("\n[bold]keys[/] (key=value)")
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 2))
    table.add_column(no_wrap=True)  # a key must be whole to be copied
    table.add_column(overflow="fold", max_width=24)
    table.add_column(overflow="fold")
    for key, value, comment in about.keys:
        table.add_row(f"[cyan]{escape(key)}[/]", f"[green]{escape(value)}[/]", f"[dim]{escape(comment)}[/]")
    out.print(table)
    out.print(
        "\nHydra's flags: --cfg job (show the config and stop), -m (sweep: schedule=linear,cosine),\n"
        "--config-dir DIR (YAML of your own; a folder named conf beside you needs no flag), --info, --hydra-help.",
        markup=False,
        soft_wrap=True,
    )


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Figures: the first column says what, the others are numbers."""
    shown = Table(title=escape(title), title_justify="left", title_style="bold", header_style="dim", box=SIMPLE_HEAD)
    for i, name in enumerate(columns):
        shown.add_column(escape(name), justify="left" if i == 0 else "right", no_wrap=True)
    for row in rows:
        shown.add_row(*map(escape, row))
    natural = out.measure(shown, options=out.options.update(max_width=WIDEST)).maximum
    # wider than the terminal rather than cut: a figure must be whole
    out.print(shown, width=max(out.width, natural), crop=False, no_wrap=True, overflow="ignore")


def show_config(config: Mapping[str, Any], title: str) -> None:
    """The composed config as a tree, one branch for each group."""
    tree = Tree(f"[bold]{escape(title)}[/]", guide_style="dim")
    _branch(tree, config)
    out.print(tree, soft_wrap=True)


def _branch(tree: Tree, node: Mapping[str, Any]) -> None:
    plain = [k for k, v in node.items() if not isinstance(v, Mapping)]
    for key in [*plain, *(k for k in node if k not in plain)]:
        value = node[key]
        if isinstance(value, Mapping):
            target = str(value.get("_target_", "")).rpartition(".")[2]
            branch = tree.add(f"[bold cyan]{escape(key)}[/] [dim]{escape(target)}[/]")
            _branch(branch, value)
        elif key not in ("_target_", "_partial_"):
            text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
            tree.add(f"{escape(key)}: [green]{escape(text)}[/]")


def show_pictures(pixels: "Tensor", across: int | None, caption: str) -> None:
    """The first few of (N,C,H,W) uint8: half blocks, two pixels a character, or shades of text without colour."""
    from .render.preview import half_blocks, shades, thumbnails

    note(caption)
    if out.color_system in ("truecolor", "256") and _can_print("▀"):
        for row in half_blocks(thumbnails(pixels, across, columns(), PREVIEW), columns()):
            line = Text("  ")
            for upper, lower in row:
                line.append("▀", Style(color=Color.from_rgb(*upper), bgcolor=Color.from_rgb(*lower)))
            out.print(line, no_wrap=True, crop=True)
    else:
        for text in shades(thumbnails(pixels, across, columns() // 2, PREVIEW // 2), columns()):
            out.print("  " + text, markup=False, no_wrap=True, crop=out.is_terminal)


def columns() -> int:
    """How many characters a picture may be wide."""
    return max(min(out.width, 100) - 4, 16)


def _can_print(character: str) -> bool:
    try:
        character.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


class LogHandler(RichHandler):
    """Log lines above the progress bar; plain `LEVEL message` where the output is not a terminal."""

    def __init__(self, level: int = logging.NOTSET):
        super().__init__(level, console=err, show_time=False, show_path=False, markup=False, rich_tracebacks=False)

    def emit(self, record: logging.LogRecord) -> None:
        if self.console.is_terminal:
            super().emit(record)
        else:
            self.console.print(f"{record.levelname.lower()}: {record.getMessage()}", markup=False, soft_wrap=True)


class Counter:
    """Counts items of a named task (decoding files, network calls): a bar, or a few plain lines. Use as a context."""

    def __init__(self) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            console=out, transient=True,
        )  # fmt: skip
        self._tasks: dict[str, TaskID] = {}
        self._told: dict[str, float] = {}

    def __enter__(self) -> "Counter":
        return self

    def __exit__(self, *_: object) -> None:
        if self._tasks:
            self._bar.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        """`total` 0 = nobody knows."""
        if out.is_terminal:
            if what not in self._tasks:
                self._bar.start()
                self._tasks[what] = self._bar.add_task(escape(what), total=total or None)
            self._bar.update(self._tasks[what], completed=done, total=total or None)
        elif self._is_time_to_tell(what, done, total):
            say(f"{what}: {done}/{total}" if total else f"{what}: {done}")

    def _is_time_to_tell(self, what: str, done: int, total: int) -> bool:
        """Without a terminal: every tenth, at most one line in five seconds, and never for what takes under five."""
        now = time.monotonic()
        last = self._told.setdefault(what, now)
        if now - last < 5 or (total and done < total and done % max(total // 10, 1)):
            return False
        self._told[what] = now
        return True


class TrainingView:
    """A run as it trains: one live line with step, loss, images/s and time left; plain lines without a terminal."""

    def __init__(self, max_seconds: float | None = None):
        self.max_seconds = max_seconds
        self._pace = Pace(0, 0)
        self._told = 0.0
        self._bar = Progress(
            TextColumn("step {task.fields[step]}"), BarColumn(bar_width=24), TaskProgressColumn(),
            TextColumn("{task.fields[numbers]}"), TextColumn("{task.fields[left]}"),
            console=out, refresh_per_second=4,
        )  # fmt: skip
        self._task: TaskID | None = None

    def begin(self, config: Mapping[str, Any], folder: "Path") -> None:
        show_config(config, f"ddpm train: {shown(folder)}")

    def counting(self) -> Counter:
        return Counter()

    def start(self, step: int, total: int) -> None:
        self._pace = Pace(step, total, self.max_seconds)
        self._told = time.monotonic()
        if out.is_terminal:
            self._task = self._bar.add_task("", total=1.0, step=f"{step}/{total}", numbers="", left="")
            self._bar.start()

    def advance(self, step: int, seconds: float) -> None:
        now = time.monotonic()
        if self._task is not None and now - self._told > 0.2:
            self._told = now
            share, left = self._pace.at(step, seconds)
            self._bar.update(
                self._task, completed=share, step=f"{step}/{self._pace.total}", left=f"{duration(left)} left"
            )
        elif self._task is None and now - self._told > SILENCE:
            self._told = now
            say(f"step {step}/{self._pace.total}: {duration(self._pace.at(step, seconds)[1])} left")

    def metrics(self, step: int, row: Mapping[str, Any]) -> None:
        if "best_step" in row:  # of another step than this one; whoever measured it says so in words
            return
        text = numbers(row)
        share, left = self._pace.at(step, float(row.get("seconds", 0.0)))
        if self._task is not None:
            self._bar.update(self._task, completed=share, step=f"{step}/{self._pace.total}")
            if "loss" in row:
                self._bar.update(self._task, numbers=text)
            else:
                self._bar.console.print(f"step {step}: {text}")
        else:
            self._told = time.monotonic()
            say(f"step {step}/{self._pace.total}: {text}" + (f", {duration(left)} left" if "loss" in row else ""))

    def pictures(self, step: int, path: "Path", pixels: "Tensor", across: int | None) -> None:
        if self._task is not None:
            show_pictures(pixels, across, f"step {step}: {shown(path)}")
        else:
            say(f"step {step}/{self._pace.total}: samples in {shown(path)}")

    def stop(self) -> None:
        if self._task is not None:
            self._bar.stop()
            self._task = None
