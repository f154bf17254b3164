"""Terminal output. Only this folder prints, and only this folder imports rich."""

from .lines import LogHandler, err, error, logs, note, out, say
from .pictures import show_pictures
from .progress import Counter, TrainingView
from .tables import Help, show_config, show_help, table, usage

__all__ = [
    "Counter",
    "Help",
    "LogHandler",
    "TrainingView",
    "err",
    "error",
    "logs",
    "note",
    "out",
    "say",
    "show_config",
    "show_help",
    "show_pictures",
    "table",
    "usage",
]
