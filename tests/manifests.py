"""Manifests as a stranger would write them: changed, with a digest that fits."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ddpm_cli.runs import manifest


def edit(path: Path, change: Callable[[dict[str, Any]], Any], sealed: bool = True) -> None:
    """Apply `change` to the content of the manifest at `path`.

    Args:
        sealed: whether it has a digest, unlike those of the first format.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    assert not sealed or "digest" in content
    content = {key: value for key, value in content.items() if key not in ("format", "digest")}
    change(content)
    manifest.write(path, content)
