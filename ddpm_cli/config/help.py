"""The content of `ddpm COMMAND --help`: groups with their choices, keys with their values and YAML comments."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ..console import Help
from .compose import compose_command
from .shipped import commands, conf_dir


def explain_command(command: str, overrides: Sequence[str]) -> Help:
    """The help of `command` with `overrides` applied. Raises what Hydra raises."""
    config = compose_command(command, overrides)
    choices = {g: [] if c is None else [c] for g, c in config.hydra.runtime.choices.items()} | _lists(overrides)
    current = {g: c for g, c in choices.items() if not g.startswith("hydra")}
    groups = [(g, _choices(config, g), c) for g, c in sorted(current.items())]
    comments = _comments(conf_dir() / f"{command}.yaml", "")
    for group, choice in ((g, c) for g, chosen in current.items() for c in chosen):
        for file in _with_bases(conf_dir() / group / f"{choice}.yaml"):
            comments |= _comments(file, "" if _is_global(file) else f"{group}.")
    values = OmegaConf.to_container(config, resolve=False)
    assert isinstance(values, dict)
    values.pop("hydra")
    keys = [(key, text, comments.get(key, "")) for key, text in _leaves(values, "")]
    return Help(command, commands()[command], groups, keys)


def _lists(overrides: Sequence[str]) -> dict[str, list[str]]:
    """["logger=[a,b]"] -> {"logger": ["a", "b"]}: Hydra does not list several choices of a group."""
    pairs = (text.partition("=")[::2] for text in overrides)
    lists = {name: value[1:-1] for name, value in pairs if value[:1] == "[" and value[-1:] == "]"}
    return {g: [c.strip() for c in v.split(",")] for g, v in lists.items() if (conf_dir() / g).is_dir()}


def _choices(config: DictConfig, group: str) -> list[str]:
    """All choices of a group, from every folder of the search path: the shipped one, the user's, --config-dir."""
    folders = [Path(s.path) / group for s in config.hydra.runtime.config_sources if s.schema == "file"]
    return sorted({p.stem for folder in folders for p in folder.glob("*.yaml")})


def _with_bases(file: Path) -> list[Path]:
    """The files that the defaults list of a YAML file builds on, then the file itself."""
    if not file.is_file():
        return []
    node = OmegaConf.load(file)
    defaults = node.get("defaults", []) if isinstance(node, DictConfig) else []
    return [*(file.with_name(f"{d}.yaml") for d in defaults if isinstance(d, str) and d != "_self_"), file]


def _is_global(file: Path) -> bool:
    """Whether its keys are top-level keys, not below the name of its group."""
    return file.read_text(encoding="utf-8").startswith("# @package _global_")


def _leaves(node: dict[Any, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for name, value in node.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        elif not str(name).startswith("_"):
            text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
            yield f"{prefix}{name}", text


def _comments(file: Path, prefix: str) -> dict[str, str]:
    """The comments of `key: value # comment` lines, by dotted key."""
    comments: dict[str, str] = {}
    path: list[str] = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if match := re.match(r"^( *)([A-Za-z]\w*):(.*)$", line):
            path = [*path[: len(match[1]) // 2], match[2]]
            _, mark, comment = match[3].partition(" # ")
            if mark:
                comments[prefix + ".".join(path)] = comment.strip()
    return comments
