"""What each run of a sweep was asked for, in a file of its folder: by that a later sweep knows the run again."""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import DdpmError
from ..files import read_json, write_json
from ..ours import ASKED
from .resume import FREE, differences

RECORD = ASKED
LENGTHS = ("trainer.steps", "trainer.epochs")
"""How long a run is; with another value it goes on as the same run, like with the keys in `FREE`."""


class Asked(NamedTuple):
    """
    Args:
        config: what the run was asked for, resolved.
        swept: the keys and groups that had several values in the sweep.
        code: the exit code of its last session; None while it runs, or if it ended without one.
        reason: why it failed.
    """

    config: Mapping[str, Any]
    swept: frozenset[str]
    code: int | None = None
    reason: str = ""

    def same_run(self, other: "Asked") -> bool:
        """Whether both are the same run of a sweep, which may be longer now or say where its data has moved.

        Keys that only one of them has count as equal, as a later version may have more.
        """
        swept = self.swept | other.swept
        return not any(
            a is not None and b is not None and a != b and (_is_below(key, swept) or not _is_below(key, MOVABLE))
            for key, a, b in differences(self.config, other.config)
        )

    def digest(self) -> str:
        """Eight hexadecimal digits of what makes this run another run."""
        kept = {k: v for k, v in _leaves(self.config) if _is_below(k, self.swept) or not _is_below(k, MOVABLE)}
        return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()[:8]

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / RECORD, self._asdict() | {"swept": sorted(self.swept)})


MOVABLE = (*FREE, *LENGTHS)


def read(folder: Path) -> Asked | None:
    """What the run in `folder` was asked for; None if it is not of a sweep, or the file is damaged."""
    try:
        node = read_json(folder / RECORD)
        config, swept, code, reason = (node[key] for key in Asked._fields)
    except (OSError, ValueError, KeyError, TypeError, DdpmError):
        return None
    if not isinstance(config, dict) or not isinstance(swept, list) or not isinstance(code, int | None):
        return None
    return Asked(config, frozenset(map(str, swept)), code, str(reason))


def find(parent: Path, name: str, asked: Asked) -> Path:
    """The folder of a run of a sweep below `parent`: that of the same run, whatever it is called, or a new one."""
    named = parent / name
    for folder in (named, *_folders(parent)):
        found = read(folder)
        if found is not None and found.same_run(asked):
            return folder
    taken = read(named) is not None  # by another run, or by one with a name that differs in its capitals
    return parent / f"{name}-{asked.digest()}" if taken else named


def is_finished(folder: Path, asked: Asked) -> bool:
    """Whether the run in `folder` is as long as it is asked to be."""
    found = read(folder)
    ended = found is not None and found.code == 0 and any((folder / "checkpoints").glob("step_*.json"))
    return ended and not any(a != b for key, a, b in differences(found.config, asked.config) if key != "run_dir")  # type: ignore[union-attr]


def _folders(parent: Path) -> Iterator[Path]:
    if parent.is_dir():
        yield from sorted(path.parent for path in parent.glob(f"*/{RECORD}"))


def _is_below(key: str, keys: Collection[str]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in keys)


def _leaves(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in node.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
