"""Single lines of output: plain lines, notes, errors and log records."""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from rich import markup
from rich.console import Console
from rich.logging import RichHandler
from rich.text import Text

from ..progress import plural
from ..text import printable

LONGEST = 5000
"""Characters of an error; the longest path has 4096."""
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def encodable(text: str) -> str:
    """The text, with escape codes and bytes that are no text as escapes: names in it may be a stranger's."""
    return printable(text, kept="\n\t")


def escape(text: str) -> str:
    """`encodable`, and without markup."""
    return markup.escape(encodable(text))


def live(console: Console) -> bool:
    """Whether a line can be drawn again: on a terminal that can, and not in a file to which colours are forced."""
    if "JPY_PARENT_PID" in os.environ and not console.is_jupyter:  # a shell line of a notebook, which has no cursor
        return False
    forced = any(name in os.environ for name in ("FORCE_COLOR", "CI"))
    return console.is_terminal and not console.is_dumb_terminal and not (forced and not console.file.isatty())


def say(text: str) -> None:
    """Print one line on stdout, without markup."""
    out.print(encodable(text), markup=False, soft_wrap=True)


def note(text: str) -> None:
    """Print one line on stdout, in a colour that distinguishes it from log lines."""
    out.print(f"[cyan]{escape(text)}[/]", soft_wrap=not out.is_terminal)


def error(text: str) -> None:
    """Print the error of a failed command, as one line on stderr."""
    _last_line("ddpm: error: ", "bold red", text)


def stopped(text: str) -> None:
    """Print how far a command came that a signal stopped, as one line on stderr."""
    _last_line("ddpm: ", "bold", text)


def _last_line(prefix: str, style: str, text: str) -> None:
    one_line = encodable(" ".join(text.split()))
    if len(one_line) > LONGEST:
        one_line = f"{one_line[: LONGEST // 2]} ... {one_line[-LONGEST // 2 :]}"
    # in a file one line; on a terminal it is broken between words
    err.print(Text.assemble((prefix, style), one_line), soft_wrap=not err.is_terminal)


class LogHandler(RichHandler):
    """Prints log records above the progress bar; as plain `level: message` lines if there is no terminal."""

    def __init__(self, level: int = logging.NOTSET):
        super().__init__(level, console=err, show_time=False, show_path=False, markup=False, rich_tracebacks=False)

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno < logging.WARNING and not record.name.startswith((__package__ or "").partition(".")[0]):
            return  # of another package, which speaks of itself
        if live(err):
            # where both are the terminal, by the console of the progress bar: it alone can move the bar down
            self.console = out if live(out) else err
            clean = logging.makeLogRecord({**vars(record), "msg": encodable(record.getMessage()), "args": ()})
            super().emit(clean)
        else:
            text = f"{record.levelname.lower()}: {record.getMessage()}"
            err.print(encodable(text), markup=False, soft_wrap=True)


class SweepHandler(logging.Handler):
    """Prints what Hydra says of a sweep: the number of runs, and the overrides of each one before it starts."""

    together = False

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage().strip()
        if found := re.fullmatch(r"Launching (\d+) jobs locally", text):
            if int(found[1]) > 1:  # of a sweeper that asks for one run after another, each would be one
                say(f"a sweep of {plural(int(found[1]), 'run')}, one after another")
        elif found := re.match(r"(?:Joblib\.Parallel\(n_jobs=(-?\d+).* is launching (\d+) jobs|Submitit )", text):
            self.together = True
            if found[2]:
                say(f"a sweep of {plural(int(found[2]), 'run')}, several at the same time (n_jobs={found[1]})")
        elif self.together and re.match(r"#\d+ : |Launching jobs, sweep output dir", text):
            pass  # Hydra announces all runs at once; each one says when it really starts
        elif found := re.fullmatch(r"#(\d+) : (.*)", text, re.DOTALL):
            out.print(f"\n[bold]run {found[1]}: {escape(found[2])}[/]", soft_wrap=not out.is_terminal)
        else:
            err.print(encodable(f"{record.levelname.lower()}: {text}"), markup=False, soft_wrap=True)


@contextmanager
def logs() -> Iterator[None]:
    """Show this program's log records inside the context, for notebooks and scripts without log handlers."""
    logger, handler = logging.getLogger("ddpm_cli"), LogHandler()
    level, has_handlers = logger.level, logger.hasHandlers()
    logger.setLevel(logging.INFO)
    if not has_handlers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
