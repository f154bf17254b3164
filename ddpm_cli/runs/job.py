"""One call of a command, in the form in which the commands pass it on."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
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
        began: the reading of `time.perf_counter` when the command started.
        choices: maps a group to all of its choices that ship with the program, as nodes.
    """

    config: Mapping[str, Any]
    folder: Path
    given: frozenset[str] = frozenset()
    began: float = field(default_factory=time.perf_counter)
    choices: Callable[[str], Mapping[str, Node]] = lambda group: {}

    @property
    def packages(self) -> frozenset[str]:
        """The packages that the config names by a `_target_`, and those of `trust`."""
        return frozenset((*_packages(self.config), *self.config.get("trust", ())))

    def sets(self, key: str) -> bool:
        """Whether the user set `key` or a key below it."""
        return any(name == key or name.startswith(f"{key}.") for name in self.given)


def _packages(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield str(node["_target_"]).partition(".")[0]
        for value in node.values():
            yield from _packages(value)
