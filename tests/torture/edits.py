"""Changes of the files of a case, as small tuples that can be kept: (what, path, ...)."""

import json
from pathlib import Path
from typing import Any

from ..manifests import edit


def apply(work: Path, change: tuple[Any, ...]) -> None:
    """Make the change in the folder `work`. One whose file is not there does nothing."""
    what, name, *rest = change
    path = work / name
    if what == "write":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(rest[0], encoding="utf-8", errors="surrogateescape")
    elif what == "folder":
        path.unlink(missing_ok=True)
        path.mkdir(parents=True, exist_ok=True)
    elif what == "remove":
        path.unlink(missing_ok=True)
    elif what == "swap" and path.is_file() and (work / rest[0]).is_file():
        other, raw = work / rest[0], path.read_bytes()
        path.write_bytes(other.read_bytes())
        other.write_bytes(raw)
    elif what == "copy" and path.is_file():
        (work / rest[0]).write_bytes(path.read_bytes())
    elif what == "set" and path.is_file():
        _set(path, *rest)
    elif what == "seal" and path.is_file():
        _seal(path)
    elif path.is_file():
        path.write_bytes(_changed(what, path.read_bytes(), *rest))


def _changed(what: str, raw: bytes, *numbers: int) -> bytes:
    """`numbers` are places, reduced to the length of the file."""
    if not raw:
        return raw
    at = numbers[0] % len(raw)
    if what == "flip":
        return raw[:at] + bytes([raw[at] ^ 1 << numbers[1]]) + raw[at + 1 :]
    if what == "byte":
        return raw[:at] + bytes([numbers[1]]) + raw[at + 1 :]
    if what == "cut":
        return raw[:at]
    if what == "zero":
        return raw[:at] + bytes(len(raw[at : at + numbers[1]])) + raw[at + numbers[1] :]
    if what == "drop":
        return raw[:at] + raw[at + numbers[1] :]
    if what == "double":
        return raw[:at] + raw[at : at + numbers[1]] + raw[at:]
    if what == "insert":
        return raw[:at] + bytes(numbers[1:]) + raw[at:]
    raise ValueError(what)


def _set(path: Path, keys: list[Any], value: Any) -> None:
    """Change one value of a manifest or of another JSON file; manifests get a digest that fits."""

    def change(content: dict[str, Any]) -> None:
        node: Any = content
        for key in keys[:-1]:
            node = node[key] if isinstance(node, dict | list) else {}
        if isinstance(node, dict) and value == "(deleted)":
            node.pop(keys[-1], None)
        elif isinstance(node, dict | list) and keys:
            node[keys[-1]] = value

    if path.parent.name == "checkpoints":
        edit(path, change)
    else:
        content = json.loads(path.read_text(encoding="utf-8"))
        change(content)
        path.write_text(json.dumps(content), encoding="utf-8")


def _seal(path: Path) -> None:
    """Make the manifest fit the tensors beside it, however they were changed."""
    from ddpm_cli.runs import checkpoint

    tensors = path.with_suffix(".safetensors")
    if tensors.is_file():
        new = {"size": tensors.stat().st_size, "sha256": checkpoint.digest(tensors)}
        edit(path, lambda content: content.update(new))
