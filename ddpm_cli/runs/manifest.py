"""The manifest of a checkpoint: JSON with a digest of its own text, so that any change of the file is noticed."""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..files import BLANK, parse_json, read_regular, write_atomically
from ..files import digest_within as _digest

FORMAT = 2
"""Since format 2 a manifest has a digest of its own."""
LARGEST = 64 * 2**20
"""The most bytes of a manifest."""


def write(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """Write `content` as a manifest, complete or not at all. Returns it with its format and digest. Raises OSError."""
    full: dict[str, Any] = {"format": FORMAT, "digest": BLANK, **content}
    text = json.dumps(full, indent=2) + "\n"
    full["digest"] = hashlib.sha256(text.encode()).hexdigest()
    sealed = text.replace(BLANK, full["digest"], 1)
    write_atomically(path, lambda temporary: temporary.write_text(sealed, encoding="utf-8", newline="\n"))
    return full


def read(path: Path) -> dict[str, Any]:
    """The content of a manifest.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged. A newer format is not: it is returned without further checks.
    """
    raw = read_regular(path, LARGEST).replace(b"\r\n", b"\n")  # Git may have changed the line ends
    try:
        content = parse_json(raw)
        kind = content["format"]
        if type(kind) is int and kind > FORMAT:
            return dict(content)
        if type(kind) is not int or kind < 1 or ("digest" in content) != (kind > 1):
            raise ValueError("format")
        if kind > 1 and _digest(raw, content["digest"]) != content["digest"]:
            raise ValueError("digest")
        _check(content)
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(str(error)) from error
    return dict(content)


def _check(content: Mapping[str, Any]) -> None:
    """Raises ValueError, KeyError, TypeError or AttributeError if a value that manifests have is of a wrong kind."""
    numbers = (content["size"], content["step"], content["seconds"])
    if any(type(n) not in (int, float) or not math.isfinite(n) or n < 0 for n in numbers):
        raise ValueError("a number")
    if type(content["step"]) is not int or not isinstance(content["sha256"], str):
        raise ValueError("step or sha256")
    for name in ("config", "about", "best", "period", "chosen", "rows"):
        content.get(name, {}).items()
