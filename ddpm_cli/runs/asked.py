"""What each run of a sweep was asked for, in a file of its folder: by that a later sweep knows the run again."""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import ConfigError, DdpmError
from ..files import read_json, shown, write_json
from ..ours import ASKED as RECORD
from ..ours import is_run
from .resume import FREE, OLD_DEFAULTS

LENGTHS = ("trainer.steps", "trainer.epochs")
PLACES = ("finetune", "dataset.root", "dataset.name")
"""A run that is resumed by hand may have these changed; of a sweep, it is another run."""
MOVABLE = (*(key for key in FREE if key not in PLACES), *LENGTHS)
"""With other values of these a run goes on as the same run, unless the sweep is over them."""
MISSING = "missing"


class Asked(NamedTuple):
    """
    Args:
        config: what the run was asked for, resolved.
        chosen: its overrides, as typed, by their keys.
        swept: the keys and groups that had several values in the sweep.
        code: the exit code of its last session; None while it runs, or if it ended without one.
        reason: why it failed.
    """

    config: Mapping[str, Any]
    chosen: Mapping[str, str]
    swept: frozenset[str]
    code: int | None = None
    reason: str = ""

    def same_run(self, other: "Asked") -> bool:
        """Whether both are the same run of a sweep, which may be longer now."""
        if any(_number(self.chosen.get(key)) != _number(other.chosen.get(key)) for key in self._choices(other)):
            return False
        swept = self.swept | other.swept
        return not any(_is_below(key, swept) or not _is_below(key, MOVABLE) for key in _changed(self, other))

    def _choices(self, other: "Asked") -> Iterator[str]:
        """Swept keys that only overrides can tell: an experiment is no key of the config."""
        for key in self.swept | other.swept:
            if (key in self.chosen and key in other.chosen) or key not in {k for k, _ in _leaves(self.config)}:
                yield key

    def digest(self) -> str:
        """Eight hexadecimal digits of what makes this run another run."""
        kept = {k: v for k, v in _leaves(self.config) if _is_below(k, self.swept) or not _is_below(k, MOVABLE)}
        text = json.dumps([kept, {key: self.chosen.get(key) for key in self.swept}], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / RECORD, self._asdict() | {"swept": sorted(self.swept)})


def read(folder: Path) -> Asked | None:
    """What the run in `folder` was asked for; None if it is not of a sweep, or the file is damaged."""
    try:
        node = read_json(folder / RECORD)
        config, chosen, swept, code, reason = (node[key] for key in Asked._fields)
    except (OSError, ValueError, KeyError, TypeError, DdpmError):
        return None
    if not isinstance(config, dict) or not isinstance(swept, list) or not isinstance(code, int | None):
        return None
    if not isinstance(chosen, dict):
        return None
    return Asked(config, {k: str(v) for k, v in chosen.items()}, frozenset(map(str, swept)), code, str(reason))


def find(parent: Path, name: str, asked: Asked) -> Path:
    """The folder of a run of a sweep below `parent`: that of the same run, whatever it is called, or a new one."""
    named = parent / name
    for folder in (named, *_folders(parent), parent):
        found = read(folder)
        if found is not None and found.same_run(asked):
            return folder
    # by another run, by one with a name that differs in its capitals, or by one that is of no sweep
    taken = read(named) is not None or is_run(named)
    return parent / f"{name}-{asked.digest()}" if taken else named


def check_same(folder: Path, asked: Asked) -> None:
    """Raises ConfigError if there is another run of a sweep in a folder that its name alone gives to this one."""
    found = read(folder)
    if found is not None and not found.same_run(asked):
        keys = ", ".join(key for key in _changed(found, asked) if not _is_below(key, MOVABLE)) or "its length"
        raise ConfigError(f"run_dir: {shown(folder)} has a run with another value of {keys}; name another folder")


def is_finished(folder: Path, asked: Asked) -> bool:
    """Whether the run in `folder` is as long as it is asked to be."""
    found = read(folder)
    if found is None or found.code != 0 or not any((folder / "checkpoints").glob("step_*.json")):
        return False
    return not any(key != "run_dir" for key in _changed(found, asked))


def check_run(folder: Path, config: Mapping[str, Any]) -> None:
    """Raises ConfigError if the run of a sweep in `folder` is not what the sweep asked for: the command line of a run
    cannot say everything that Hydra can do in a sweep."""
    asked = read(folder)
    if asked is None:
        return
    for key in _changed(asked, Asked(json.loads(json.dumps(config, default=str)), {}, frozenset())):
        if not _is_below(key, MOVABLE):
            a, b = (dict(_leaves(c)).get(key, MISSING) for c in (asked.config, config))
            raise ConfigError(
                f"{key}: is {a} in the sweep, but {b} in its run {shown(folder)}; write the value in the command, "
                "without ${hydra:...}, or train the runs one by one"
            )


def _changed(one: Asked, other: Asked) -> Iterator[str]:
    """The keys in which two configs differ. A missing key has the value that it had before it existed, if any."""
    a, b = dict(_leaves(one.config)), dict(_leaves(other.config))
    for key in dict.fromkeys((*a, *b)):
        old = OLD_DEFAULTS.get(key, MISSING)
        if a.get(key, old) != b.get(key, old):
            yield key


def _folders(parent: Path) -> Iterator[Path]:
    if parent.is_dir():
        yield from sorted(path.parent for path in parent.glob(f"*/{RECORD}"))


def _is_below(key: str, keys: Collection[str]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in keys)


def _number(text: str | None) -> float | str | None:
    """1e-3 and 0.001 are one value."""
    try:
        return float(text or "")
    except ValueError:
        return text


def _leaves(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
