"""What a run directory says about a run beside its tensors, checked against the manifests of its checkpoints."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..files import read_json, read_regular
from . import checkpoint
from .logs import ROWS, sealed_bytes


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
        raw = read_regular(folder / "metrics.jsonl")
    return sealed_bytes(raw, sealed) is None
