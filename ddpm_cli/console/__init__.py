"""Terminal output. Only this folder prints, and only this folder imports rich.

The progress bars are in `console.progress`, imported by the commands that show one: rich.progress is slow to import.
"""

from .lines import LogHandler, SweepHandler, err, error, live, logs, note, out, say, stopped
from .pictures import show_pictures
from .survival import survive
from .tables import Help, show_choices, show_config, show_help, table, usage

__all__ = [
    "Help",
    "LogHandler",
    "SweepHandler",
    "err",
    "error",
    "live",
    "logs",
    "note",
    "out",
    "say",
    "show_choices",
    "show_config",
    "show_help",
    "show_pictures",
    "stopped",
    "survive",
    "table",
    "usage",
]
