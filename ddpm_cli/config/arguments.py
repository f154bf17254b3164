"""The command line before Hydra parses it: paths and names become quoted text, `group=null` becomes what it means.

Hydra's grammar refuses a path such as `~/pictures` or `pics (1)`, and reads `2026_09_25` as a number. Which keys are
paths and names follows from their declared types, `PathText` and `NameText`.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_args, get_origin

from ..early import declared_types
from ..errors import ConfigError
from ..text import NameText, PathText, is_quoted, quoted
from .shipped import conf_dir

SWEEP = ("-m", "--multirun")
PLACE = {"verify": "ckpt", "runs": "of"}
"""Command -> the key that an argument without one is meant for."""
MODE = ("hydra.mode=MULTIRUN", "hydra.mode='MULTIRUN'", 'hydra.mode="MULTIRUN"')
PLAIN = re.compile(r"[A-Za-z/.][A-Za-z0-9_./-]*")
"""Values that Hydra reads as the same text, apart from `WORDS`."""
WORDS = ("true", "false", "null", "nan", "inf", "none")
SWEEPS = re.compile(r"(choice|range|interval|glob|sort|shuffle|tag|extend_list)\(.*\)", re.DOTALL)
ASSIGNMENT = re.compile(r"(\+{0,2})([A-Za-z_][\w./-]*)(@[\w.]+)?=(.*)", re.DOTALL)


def is_sweep(arguments: Sequence[str]) -> bool:
    return any(a in SWEEP or _is_short(a) or a.lstrip("+") in MODE for a in arguments)


def _is_short(flag: str) -> bool:
    """Whether it is a beginning of --multirun, which Python's parser takes for the whole."""
    return len(flag) > len("--m") and SWEEP[1].startswith(flag)


def prepared(command: str, arguments: Sequence[str]) -> list[str]:
    """The arguments of `command` as Hydra must see them."""
    sweep = is_sweep(arguments)
    if command in PLACE:  # `ddpm verify RUN`
        arguments = _with_key(PLACE[command], arguments)
    return [a for argument in arguments if (a := _prepared(command, argument, sweep)) is not None]


def _with_key(key: str, arguments: Sequence[str]) -> list[str]:
    """`a b x=1` -> `x=1 key=[a,b]`: the arguments that have no key, as its value."""
    plain = [a for a in arguments if _is_place(a)]
    rest = [a for a in arguments if a not in plain]
    value = plain[0] if len(plain) == 1 else f"[{','.join(map(quoted, plain))}]"
    return [*rest, f"{key}={value}"] if plain else rest


def _is_place(argument: str) -> bool:
    """Whether it is a path. Those of runs of a sweep have an equals sign."""
    if argument.startswith(("-", "hydra/", "hydra.")):
        return False
    name, sign, _ = argument.partition("=")
    return "/" in name or not (sign or name.startswith("~")) or os.path.exists(argument)  # noqa: PTH110, never raises


def _prepared(command: str, argument: str, sweep: bool) -> str | None:
    """None = leave it out."""
    if argument in ("~experiment", "~logger"):
        return _without(argument[1:])
    match = ASSIGNMENT.fullmatch(argument)
    if not match:
        return argument
    plus, key, package, value = match.groups()
    if value in ("null", "[]") and package is None and _is_group(key):
        if key == "experiment" or _has_none(key):
            return _without(key)
        choices = ", ".join(sorted(path.stem for path in (conf_dir() / key).glob("*.yaml")))
        raise ConfigError(f"{key}: cannot be {value}; choose one of {choices}, or leave it out")
    if package or _is_plain(value):
        return argument
    kinds = _kinds(command, key)
    return f"{plus}{key}={_as_text(value, kinds, sweep)}" if kinds & {PathText, NameText} else argument


def _is_group(name: str) -> bool:
    return bool(name) and name != "hydra" and (conf_dir() / name).is_dir()


def _has_none(group: str) -> bool:
    return (conf_dir() / group / "none.yaml").is_file()


def _without(group: str) -> str | None:
    """The override that means "nothing of this group": its choice `none`, or none at all if that is the default."""
    return f"{group}=none" if _has_none(group) else None


def _is_plain(value: str) -> bool:
    return value == "" or (bool(PLAIN.fullmatch(value)) and value.lower() not in WORDS)


def _as_text(value: str, kinds: set[Any], sweep: bool) -> str:
    """The value, or each of the values of a sweep, as Hydra must see it."""
    if not sweep:
        return _one(value, kinds)
    if SWEEPS.fullmatch(value):
        return value
    return ",".join(_one(part, kinds) for part in split(value, brackets=list in kinds))


def _one(value: str, kinds: set[Any]) -> str:
    if value == "" or is_quoted(value) or (value == "null" and NoneType in kinds):
        return value
    if bool in kinds and value.lower() in ("true", "false"):
        return value
    if list in kinds and value.startswith("[") and value.endswith("]"):
        items = [item.strip() for item in split(value[1:-1])]
        return "[" + ",".join(_one(item, kinds - {list, NoneType}) for item in items if item) + "]"
    if int in kinds and NameText not in kinds and re.fullmatch(r"-?\d+", value):  # a number can be a name, but no path
        return value
    return quoted(value)


def split(value: str, brackets: bool = False) -> list[str]:
    """The parts of `value` between its commas, except for commas in quotation marks and, if asked, in brackets."""
    parts, depth, mark = [""], 0, ""
    for i, c in enumerate(value):
        if mark:
            mark = "" if c == mark and value[i - 1] != "\\" else mark
        elif c in "\"'" and not parts[-1].strip() and value.find(c, i + 1) > 0:  # a mark within a name is a letter
            mark = c
        elif brackets and c in "[]":
            depth += 1 if c == "[" else -1
        elif c == "," and depth == 0:
            parts.append("")
            continue
        parts[-1] += c
    return parts


def _kinds(command: str, key: str) -> set[Any]:
    """The plain types that `key` may have: of `list[PathText] | None`, these are list, PathText and NoneType."""
    kinds: set[Any] = set()
    for hint in _declared(command, key):
        kinds |= set(_parts(hint))
    return kinds


def _parts(hint: Any) -> Iterator[Any]:
    if get_origin(hint) is Annotated or not get_args(hint):
        yield hint
        return
    if get_origin(hint) is list:
        yield list
    for part in get_args(hint):
        yield from _parts(part)


def _declared(command: str, key: str) -> Iterator[Any]:
    """The declared types of a key: of the command's own, or of all the choices of a group that have it."""
    group, *rest = key.split(".")
    if not rest:
        targets = [f"ddpm_cli.commands.{command}.Options"]
        if command == "bench":
            targets = [f"ddpm_cli.bench.{path.stem}.Options" for path in sorted((conf_dir() / "what").glob("*.yaml"))]
        for target in targets:
            yield from (hint for name, hint in declared_types(target).items() if name == key)
    elif _is_group(group):
        for file in sorted((conf_dir() / group).glob("*.yaml")):
            yield from _of_node(file, rest)


def _of_node(file: Path, key: Sequence[str]) -> Iterator[Any]:
    from omegaconf import OmegaConf

    node: Any = OmegaConf.to_container(OmegaConf.load(file))
    for name in key[:-1]:
        node = node.get(name) if isinstance(node, Mapping) else None
    if isinstance(node, Mapping) and "_target_" in node:
        yield from (hint for name, hint in declared_types(str(node["_target_"])).items() if name == key[-1])
