"""One call of a command, as everything below the commands sees it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..build import Node


@dataclass(frozen=True)
class Job:
    """
    Args:
        config: as composed, resolved to plain dicts, lists, numbers and text. Nobody writes into it.
        folder: where the command may put its files.
        given: the dotted keys and groups that the user set, on the command line or in Python.
        choices: group -> every choice that the program comes with, as a node.
    """

    config: Mapping[str, Any]
    folder: Path
    given: frozenset[str] = frozenset()
    choices: Callable[[str], Mapping[str, Node]] = lambda group: {}

    def sets(self, key: str) -> bool:
        """Whether the user set `key` or something below it."""
        return any(name == key or name.startswith(f"{key}.") for name in self.given)
