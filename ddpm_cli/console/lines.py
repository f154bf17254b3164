"""Lines: what is said, noted, and the one that a failed command leaves."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.text import Text

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


class LogHandler(RichHandler):
    """Log lines above the progress bar; plain `LEVEL message` where the output is not a terminal."""

    def __init__(self, level: int = logging.NOTSET):
        super().__init__(level, console=err, show_time=False, show_path=False, markup=False, rich_tracebacks=False)

    def emit(self, record: logging.LogRecord) -> None:
        if self.console.is_terminal:
            super().emit(record)
        else:
            self.console.print(f"{record.levelname.lower()}: {record.getMessage()}", markup=False, soft_wrap=True)


@contextmanager
def logs() -> Iterator[None]:
    """Log lines of this program where nothing else shows them, as in a notebook or a script."""
    logger, handler = logging.getLogger("ddpm_cli"), LogHandler()
    level, shown_already = logger.level, logger.hasHandlers()
    logger.setLevel(logging.INFO)
    if not shown_already:
        logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
