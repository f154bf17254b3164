"""One call of a command, in the form in which the commands pass it on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..build import Node


@dataclass(frozen=True)
class Job:
    """
    Args:
        config: as composed, resolved to plain dicts, lists, numbers and text. Read-only.
        folder: where the command may write its files.
        given: the dotted keys and groups that the user set, on the command line or in Python.
        choices: maps a group to all of its choices that ship with the program, as nodes.
    """

    config: Mapping[str, Any]
    folder: Path
    given: frozenset[str] = frozenset()
    choices: Callable[[str], Mapping[str, Node]] = lambda group: {}

    def sets(self, key: str) -> bool:
        """Whether the user set `key` or a key below it."""
        return any(name == key or name.startswith(f"{key}.") for name in self.given)
