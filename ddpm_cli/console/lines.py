"""Single lines of output: plain lines, notes, errors and log records."""

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.text import Text

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def print_any_text() -> None:
    """Print characters that the encoding of stdout lacks as escapes, as on stderr: \\u2192 is better than an error.

    On Windows the encoding of a pipe or a file has 256 characters, and names of folders have others.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def say(text: str) -> None:
    """Print one line on stdout, without markup."""
    out.print(text, markup=False, soft_wrap=True)


def note(text: str) -> None:
    """Print one line on stdout, with a mark that distinguishes it from log lines."""
    out.print(f"[bold cyan]>[/] {escape(text)}", soft_wrap=True)


def error(text: str) -> None:
    """Print the error of a failed command, as one line on stderr."""
    one_line = " ".join(text.split())
    err.print(Text.assemble(("ddpm: error: ", "bold red"), one_line), soft_wrap=True)


class LogHandler(RichHandler):
    """Prints log records above the progress bar; as plain `level: message` lines if there is no terminal."""

    def __init__(self, level: int = logging.NOTSET):
        super().__init__(level, console=err, show_time=False, show_path=False, markup=False, rich_tracebacks=False)

    def emit(self, record: logging.LogRecord) -> None:
        if err.is_terminal:
            # where both are the terminal, by the console of the progress bar: it alone can move the bar down
            self.console = out if out.is_terminal else err
            super().emit(record)
        else:
            err.print(f"{record.levelname.lower()}: {record.getMessage()}", markup=False, soft_wrap=True)


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
