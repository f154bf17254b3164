"""The settings of runs, as text, for a table that shows in which of them the runs differ."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

PLACES = (
    "run_dir",
    "resume",
    "finetune",
    "trust",
    "debug",
    "sweep_metric",
    "logger",
    "hydra",
    "dataset.root",
    "dataset.download",
)
"""Keys that say where things lie, not what was trained."""
LONGEST = 200
"""Characters of a value."""
DEEPEST = 8
"""Levels of a config that are looked at."""
MOST = 6
"""Runs that differ in more keys than these are not variants of one run."""


def settings_of(config: Mapping[str, Any]) -> dict[str, str]:
    """The settings of a run by their dotted keys. A group has its own entry, with the name of its class."""
    return {key: text for key, text in _flat(config, "") if not key.startswith(PLACES)}


def differing(runs: Sequence[Mapping[str, str]]) -> list[str]:
    """The keys in which runs differ; without those inside a group if the groups themselves do. Empty if there are many.

    Args:
        runs: as returned by `settings_of`; an empty one is of a run whose settings are unknown.
    """
    known = [run for run in runs if run]
    if len(known) < len(runs) or not known:
        return []
    keys = sorted({key for run in known for key in run})
    keys = [key for key in keys if len({run.get(key) for run in known}) > 1]
    groups = set(keys)
    keys = [key for key in keys if not any(group in groups for group in _groups_of(key))]
    return keys if len(keys) <= MOST else []


def _groups_of(key: str) -> Iterator[str]:
    """ "a.b.c" -> "a", "a.b"."""
    parts = key.split(".")[:DEEPEST]
    yield from (".".join(parts[:n]) for n in range(1, len(parts)))


def _flat(node: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in node.items():
        if key == "_target_":
            yield prefix.rstrip("."), str(value).rpartition(".")[2]
        elif isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif not key.startswith("_"):
            yield f"{prefix}{key}", _text(value)[:LONGEST]


def _text(value: Any) -> str:
    """As it is typed."""
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_text, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
