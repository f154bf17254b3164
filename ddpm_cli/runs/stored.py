"""What a run directory says about a run beside its tensors, checked against the manifests of its checkpoints."""

import json
import logging
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..files import read_json, read_regular, shown, write_json
from ..ours import SAVED
from . import checkpoint
from .logs import ROWS, sealed_bytes

log = logging.getLogger(__name__)


def newest_manifest(folder: Path) -> Mapping[str, Any]:
    """The newest manifest of the run in `folder` that is not damaged; {} if there is none."""
    places = folder / "checkpoints"
    for step in sorted(checkpoint.steps_in(places), reverse=True):
        if content := checkpoint.content_of(places / f"{checkpoint.name_of(step)}.json"):
            return content
    return {}


def config_of(folder: Path) -> Any:
    """The config of the run in `folder`: that of its newest manifest, else its config.json, which has no digest.

    Raises:
        OSError, ValueError: it has neither.
    """
    config = newest_manifest(folder).get("config")
    return read_json(folder / "config.json") if config is None else config


def rows_changed(folder: Path) -> bool:
    """Whether metrics.jsonl is not as it was when the newest checkpoint was saved."""
    sealed, raw = newest_manifest(folder).get(ROWS), b""
    with suppress(OSError, ValueError):
        raw = read_regular(folder / "metrics.jsonl").replace(b"\r\n", b"\n")
    return sealed_bytes(raw, sealed) is None


def mark_saved(folder: Path) -> None:
    """Leave a mark that the run in `folder` has a checkpoint, so that it never starts afresh where they are lost."""
    with suppress(OSError):  # it is only one more safeguard
        if not was_saved(folder):
            (folder / SAVED).touch()


def was_saved(folder: Path) -> bool:
    """Whether the run in `folder` has had a checkpoint."""
    return (folder / SAVED).exists()


def is_config(folder: Path, config: Mapping[str, Any]) -> bool:
    """Whether the run in `folder` has this config."""
    try:
        return bool(read_json(folder / "config.json") == json.loads(json.dumps(config)))
    except (OSError, ValueError):
        return False


def repair_config(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write config.json again if it is not that of the checkpoint with this manifest. Raises OSError."""
    path, config = folder / "config.json", None
    with suppress(OSError, ValueError):
        config = read_json(path)
    if manifest and config != manifest["config"]:
        log.warning("%s: is not that of step %d; it is written again", shown(path), manifest["step"])
        write_json(path, manifest["config"])


@cache
def versions() -> dict[str, str]:
    """Of the packages that decide the values of a run, read once."""
    found = {}
    for package in ("ddpm-cli", "torch", "torchvision", "numpy"):
        try:
            found[package] = version(package)
        except (PackageNotFoundError, OSError):
            found[package] = "not installed"
    return found
