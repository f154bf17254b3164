"""Manifests as a stranger would write them: changed, with a digest that fits."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ddpm_cli.runs import manifest


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Apply `change` to the content of the manifest at `path`."""
    content = json.loads(path.read_text(encoding="utf-8"))
    del content["format"], content["digest"]
    change(content)
    manifest.write(path, content)
