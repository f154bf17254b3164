"""The calls that decide what a power cut leaves, recorded in their order."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def recorded_writes(
    monkeypatch: pytest.MonkeyPatch, folder: Path, contents: dict[int, bytes] | None = None
) -> Iterator[list[tuple[str, ...]]]:
    """In `folder`: ("sync", name) of each os.fsync, ("rename", from, to) of each os.replace, ("remove", name).

    Args:
        contents: filled with what was in each file that was synced, by the index of the call.
    """
    calls: list[tuple[str, ...]] = []
    originals: dict[str, Any] = {name: getattr(os, name) for name in ("fsync", "replace", "unlink")}

    def fsync(handle: int) -> None:
        facts = os.fstat(handle)
        places = [folder, *folder.rglob("*"), *folder.rglob(".*")]
        path = next(p for p in places if os.path.samestat(facts, p.stat()))
        if contents is not None and path.is_file():
            contents[len(calls)] = path.read_bytes()
        calls.append(("sync", path.name))
        originals["fsync"](handle)

    def replace(source: Any, target: Any, **options: Any) -> None:
        calls.append(("rename", Path(source).name, Path(target).name))
        originals["replace"](source, target, **options)

    def unlink(path: Any, **options: Any) -> None:
        if Path(path).exists():
            calls.append(("remove", Path(path).name))
        originals["unlink"](path, **options)

    with monkeypatch.context() as patch:
        for function in (fsync, replace, unlink):
            patch.setattr(os, function.__name__, function)
        yield calls
