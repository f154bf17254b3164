"""Terminal output. Only this folder prints, and only this folder imports rich.

The progress bars are in `console.progress`, imported by the commands that show one: rich.progress is slow to import.
"""

from .lines import LogHandler, err, error, logs, note, out, print_any_text, say
from .pictures import show_pictures
from .tables import Help, show_config, show_help, table, usage

__all__ = [
    "Help",
    "LogHandler",
    "err",
    "error",
    "logs",
    "note",
    "out",
    "print_any_text",
    "say",
    "show_config",
    "show_help",
    "show_pictures",
    "table",
    "usage",
]
