"""Figures to the terminal and to bench.json."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import console
from ..files import shown, write_json
from .figures import SPREAD, Figure


def report(
    folder: Path,
    what: str,
    title: str,
    figures: Sequence[Figure],
    protocol: Mapping[str, Any],
    machine: Mapping[str, Any],
    config: Mapping[str, Any],
) -> None:
    """A table, and `folder`/bench.json: figures, how they were taken, on what machine, of which config. Says where."""
    console.table(title, [what, "median", SPREAD, "goal"], [f.row() for f in figures])
    found = {
        "what": what,
        "title": title,
        "figures": {f.name: f.facts() for f in figures},
        "protocol": {"spread": SPREAD} | dict(protocol),
        "machine": dict(machine),
        "config": dict(config),
    }
    write_json(folder / "bench.json", found)
    console.note(f"figures in {shown(folder)}/bench.json")
