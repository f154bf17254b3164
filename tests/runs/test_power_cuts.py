"""Power cuts in a simulation: after any prefix of the calls of a save, with any unsynced changes lost.

The model is what POSIX allows, and harsher than common file systems: the content of a file is certain once the file was
synced, and before that it may be missing or cut. A change of a folder (a new name, a rename, a removal) is certain once
the folder was synced; before that, any subset of the changes may have reached the disk.
"""

import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from ddpm_cli.runs import checkpoint, retention

from ..writes import recorded_writes


class Change(NamedTuple):
    """what: create, data (a file was synced), sync (the folder was), rename, remove, done (a save returned)."""

    what: str
    name: str = ""
    to: str = ""
    content: bytes = b""


def changes(calls: list[tuple[str, ...]], contents: dict[int, bytes], folder: str) -> Iterator[Change]:
    """`recorded_writes` as changes. A file is made some time before the first call that names it."""
    known: set[str] = set()
    for i, (what, *names) in enumerate(calls):
        if what == "done" or names == [folder]:
            yield Change(what)
            continue
        if names[0] not in known:
            yield Change("create", names[0])
        known = (known - {names[0]}) | ({names[-1]} if what != "remove" else set())
        yield Change("data", names[0], content=contents[i]) if what == "sync" else Change(what, *names)


def states(done: list[Change]) -> Iterator[dict[str, bytes]]:
    """The contents of the folder that a power cut after these changes may leave."""
    files: list[bytes | None] = []  # what was synced of each file; None = nothing
    names: dict[str, int] = {}  # as the running system sees them
    certain: dict[str, int] = {}
    pending: list[tuple[str, str, int]] = []  # (removed name, added name, file)
    for change in done:
        if change.what == "create":
            names[change.name] = len(files)
            pending.append(("", change.name, len(files)))
            files.append(None)
        elif change.what == "data":
            files[names[change.name]] = change.content
        elif change.what == "rename":
            names[change.to] = names.pop(change.name)
            pending.append((change.name, change.to, names[change.to]))
        elif change.what == "remove":
            pending.append((change.name, "", names.pop(change.name)))
        elif change.what == "sync":
            certain, pending = dict(names), []
    for chosen in itertools.product((False, True), repeat=len(pending)):
        left = dict(certain)
        for (removed, added, file), happened in zip(pending, chosen, strict=True):
            if happened:
                left.pop(removed, None)
                left.update({added: file} if added else {})
        lost = any(files[file] is None for file in left.values())
        for cut in (b"", b"half") if lost else (b"",):
            yield {name: cut if (content := files[file]) is None else content for name, file in left.items()}


def value_in(state: dict[str, bytes], folder: Path, cleaned: bool) -> float | None:
    """The value that is found in such a folder, by a reader or by the next start."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in state.items():
        (folder / name).write_bytes(content)
    if cleaned:
        retention.clean(folder)
    found = checkpoint.latest(folder)
    return None if found is None else float(found.tensors()["model.w"][0])


@pytest.mark.skipif(os.name != "posix", reason="folders are synced on POSIX only")
def test_every_power_cut_leaves_a_valid_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    contents: dict[int, bytes] = {}
    with recorded_writes(monkeypatch, folder, contents) as calls:
        for value, step in enumerate((1, 1, 2, 3, 3), start=1):  # with steps that are saved again
            manifest = {"seconds": 1.0, "config": {}}
            checkpoint.save(folder, step, {"model.w": torch.full((3,), float(value))}, manifest)
            calls.append(("done",))
            retention.prune(folder, step, keep_last=2)
    seen, tried = set[float | None](), 0
    made = list(changes(calls, contents, folder.name))
    for length in range(len(made) + 1):
        done = made[:length].count(Change("done"))
        for state in states(made[:length]):
            for cleaned in (False, True):
                found = value_in(state, tmp_path / "after", cleaned)
                allowed = {float(done) if done else None, float(done + 1)}
                assert found in allowed, (made[:length][-3:], sorted(state), found, allowed)
                seen.add(found)
                tried += 1
    assert seen == {None, 1.0, 2.0, 3.0, 4.0, 5.0} and tried > 300, tried
