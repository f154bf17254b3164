"""Hydra's and OmegaConf's exceptions -> `<key>: <what is wrong>; <what to do>`."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf

from ..files import override
from .compose import compose_command
from .shipped import conf_dir


def explain_hydra(error: BaseException, command: str, arguments: Sequence[str]) -> str:
    """One line about a config that Hydra could not compose."""
    text = str(error)
    if isinstance(error, OverrideParseException):
        key, _, value = str(error.override).partition("=")
        advice, name = "write key=value", key.lstrip("+~")
        if value and re.fullmatch(r"[\w.]+", name) and name not in [*_keys(_compose(command, [])), *_groups()]:
            return _unknown_key(name, command, arguments)
        if value and re.fullmatch(r"[+~]*[\w.@/-]+", key):
            advice = "quote a value that has other characters than letters, digits and ./_-, for example "
            advice += override(key, value.strip("\"'"))
        return f"{error.override}: cannot be parsed; {advice}"
    if isinstance(error, MissingConfigException):
        return _missing(error, text)
    if match := re.search(r"Could not override '([^']+)'", text):
        return _unknown_key(match[1], command, arguments)
    if match := re.search(r"config group '([^']+)' does not", text.replace("\n", " ")):
        return f"{match[1]}: is not a group; groups: {', '.join(_groups())}"
    if match := re.search(r"Ambiguous value for argument '([^']+)'", text):
        return f"{match[1]}: has several values; write key=[a,b] for a list, or add -m to sweep over them"
    if match := re.search(r"Sweep parameters '([^']+)' requires --multirun", text):
        return f"{match[1]}: has several values; add -m to sweep over them"
    if match := re.search(r"Error merging override ([^\s]+)", text):
        return f"{match[1]}: {_cause(error)}; see ddpm {command} --help"
    return f"config: {_first(text) or _cause(error)}; see ddpm {command} --help"


def _missing(error: MissingConfigException, text: str) -> str:
    if error.options is not None and error.missing_cfg_file:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        options = [o for o in error.options if o]
        close = difflib.get_close_matches(choice, options, n=1, cutoff=0.5)
        advice = f"did you mean {close[0]!r}? " if close else ""
        return f"{group}: there is no {choice!r}; {advice}choose one of {', '.join(options)}"
    if match := re.search(r"Could not load '([^']+)'|Cannot find primary config '([^']+)'", text):
        return f"{match[1] or match[2]}: is not in any config folder; --info searchpath lists them"
    return f"config: {_first(text)}; --info searchpath lists the config folders"


def _unknown_key(key: str, command: str, arguments: Sequence[str]) -> str:
    """A message with suggestions from the existing keys and groups, with the rest of the command line applied."""
    keys = _keys(_compose(command, [a for a in arguments if not _about(a, key)]))
    written = next((a.lstrip("+~").partition("=")[0] for a in arguments if _about(a, key)), key)
    parent, _, leaf = written.rpartition(".")
    if command == "eval" and written.partition(".")[0] == "dataset":
        return f"{written}: is not a key of ddpm eval, which takes the dataset of the run; set root=FOLDER if it moved"
    if choices := _choices_with(parent, leaf):
        advice = " or ".join(f"{parent}={choice}" for choice in choices)
        return f"{written}: is not an option of the current choice; add {advice}"
    if not parent and (deeper := [k for k in keys if k.endswith(f".{leaf}") and k.count(".") == 1]):
        return f"{written}: is not a key; did you mean {' or '.join(map(repr, deeper))}?"
    siblings = [k.rpartition(".")[2] for k in keys if k.rpartition(".")[0] == parent]
    if close := difflib.get_close_matches(leaf, siblings, n=1, cutoff=0.6):
        guess = f"{parent}.{close[0]}" if parent else close[0]
        return f"{written}: is not a key; did you mean {guess!r}?"
    same_leaf = [k for k in keys if k.rpartition(".")[2] == leaf]
    others = [name for name in (*keys, *_groups()) if name != written]
    if guesses := same_leaf or difflib.get_close_matches(written, others, n=1, cutoff=0.6):
        return f"{written}: is not a key; did you mean {' or '.join(map(repr, guesses))}?"
    allowed = ", ".join(siblings) if siblings and parent else f"see ddpm {command} --help"
    return f"{written}: is not a key; {'allowed: ' if siblings and parent else ''}{allowed}"


def _choices_with(group: str, key: str) -> list[str]:
    """The shipped choices of a group that have this key."""
    files = sorted((Path(conf_dir()) / group).glob("*.yaml")) if group in _groups() else []
    return [f.stem for f in files if key in OmegaConf.load(f)]


def _about(argument: str, key: str) -> bool:
    written = argument.lstrip("+~").partition("=")[0]
    return written == key or written.endswith("." + key) or key.endswith("." + written)


def _compose(command: str, arguments: Sequence[str]) -> DictConfig | None:
    overrides = [a for a in arguments if "=" in a and not a.startswith("-")]
    for attempt in (overrides, []):  # if the rest is wrong as well, suggest from the defaults
        try:
            return compose_command(command, attempt)
        except Exception:  # noqa: S112 (it is the error that is being explained)
            continue
    return None


def _keys(config: DictConfig | None) -> list[str]:
    keys: list[str] = []

    def walk(node: Any, prefix: str) -> None:
        for name, value in node.items():
            if not str(name).startswith("_") and f"{prefix}{name}" != "hydra":
                keys.append(f"{prefix}{name}")
                if isinstance(value, dict):
                    walk(value, f"{prefix}{name}.")

    if config is not None:
        walk(OmegaConf.to_container(config, resolve=False), "")
    return keys


def _groups() -> list[str]:
    return sorted(p.name for p in Path(conf_dir()).iterdir() if p.is_dir() and p.name != "hydra")


def _first(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def _cause(error: BaseException) -> str:
    deepest = error
    while deepest.__cause__ is not None:
        deepest = deepest.__cause__
    return _first(str(deepest)) or type(deepest).__name__
