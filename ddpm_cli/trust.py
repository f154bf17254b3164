"""The classes that a stored config may name, and where modules may come from.

A checkpoint may come from a stranger, so its config is data: a `_target_` in it may only be one that the shipped conf/
names in the same place, or a class of a package that the user named with `trust=`.
"""

import importlib
import os
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

ALIASES = {
    "ddpm_cli.diffusion.guidance.ByClassifier": "ddpm_cli.sampling.guidance.ClassifierGuidance",
    "ddpm_cli.training.ema.Decay": "ddpm_cli.training.plan.Decay",
}
"""Targets in configs and checkpoints of older versions -> their current paths."""


def conf_dir() -> Path:
    """The folder conf: inside the package when installed, next to it in a checkout."""
    package = Path(__file__).parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


@cache
def shipped_targets(key: str) -> frozenset[str]:
    """The targets that conf/ names for the node at `key` of a config, such as `objective.weighting`."""
    *_, last = places = key.split(".")
    found = {target for place, target in _targets(last) if not place}
    return frozenset(found | {target for place, target in _targets(places[0]) if place == tuple(places[1:])})


@cache
def _targets(group: str) -> tuple[tuple[tuple[str, ...], str], ...]:
    """(place in the node, target) of every `_target_` in the files of a group."""
    files = sorted((conf_dir() / group).glob("*.yaml")) if group.isidentifier() else []
    return tuple(found for path in files for found in _targets_in(path.read_text(encoding="utf-8")))


def _targets_in(text: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """The same for one file, read without a YAML parser: ours are mappings in block style."""
    above: list[tuple[int, str]] = []
    for line in text.splitlines():
        if match := re.match(r"( *)([\w.]+):\s*([^\s#]*)", line):
            indent, name, value = len(match[1]), match[2], match[3]
            while above and above[-1][0] >= indent:
                above.pop()
            if name == "_target_":
                yield tuple(key for _, key in above), value
            else:
                above.append((indent, name))


def leave_working_directory() -> None:
    """Import no module from the working directory: its files are the user's data. PYTHONPATH may still name it."""
    here = Path.cwd()
    named = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    kept = [entry for entry in sys.path if (entry in named and entry) or Path(entry or ".").absolute() != here]
    if Path(__file__).parents[1] == here:  # a checkout that is not installed; processes that are started need it
        kept.append(str(here))
    sys.path[:] = kept


def module_at(name: str) -> ModuleType:
    """Import the module that a `_target_` names, from the working directory if it is installed nowhere.

    Raises:
        ImportError: there is none.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0]:
            raise
    sys.path.append(str(Path.cwd()))  # last, so that it shadows nothing
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name == name.partition(".")[0]:
            sys.path.pop()
        raise
