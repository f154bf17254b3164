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
from typing import Any, NamedTuple

import pytest
import torch

from ddpm_cli.runs import checkpoint, retention

NAMES = tuple[tuple[str, int], ...]


class Call(NamedTuple):
    """what: create, rename, unlink, data (a file was synced), sync (the folder was), done (a save returned)."""

    what: str
    name: str = ""
    to: str = ""
    content: bytes = b""


class Recorder:
    """Records the calls that change the folder, by patching `os`."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch):
        self.folder, self.calls = folder, list[Call]()
        self.known: set[str] = set()
        real = {name: getattr(os, name) for name in ("fsync", "replace", "rename", "unlink")}

        def fsync(handle: Any) -> None:
            real["fsync"](handle)
            path = Path(f"/proc/self/fd/{handle}").readlink()
            if path == folder:
                self.calls.append(Call("sync"))
            elif path.parent == folder:
                self._create(path.name)
                self.calls.append(Call("data", path.name, content=path.read_bytes()))

        def moved(name: str) -> Any:
            def move(source: Any, target: Any, **options: Any) -> None:
                if Path(source).parent == folder:
                    self._create(Path(source).name)
                    self.calls.append(Call("rename", Path(source).name, Path(target).name))
                    self.known.discard(Path(source).name)
                    self.known.add(Path(target).name)
                real[name](source, target, **options)

            return move

        def unlink(path: Any, **options: Any) -> None:
            real["unlink"](path, **options)
            if Path(path).parent == folder:
                self.calls.append(Call("unlink", Path(path).name))
                self.known.discard(Path(path).name)

        for name, replacement in (
            ("fsync", fsync), ("replace", moved("replace")), ("rename", moved("rename")), ("unlink", unlink),
        ):  # fmt: skip
            patch.setattr(os, name, replacement)

    def _create(self, name: str) -> None:
        if name not in self.known:
            self.known.add(name)
            self.calls.append(Call("create", name))


def states(calls: list[Call]) -> Iterator[dict[str, bytes]]:
    """The contents of the folder that a power cut after these calls may leave."""
    files: dict[int, bytes | None] = {}  # the content of each file that was synced; None = it was not
    names: dict[str, int] = {}  # as the running system sees them
    certain: dict[str, int] = {}
    pending: list[tuple[str, str, int]] = []  # (removed name, added name, file)
    for call in calls:
        if call.what == "create":
            names[call.name] = len(files)
            files[len(files)] = None
            pending.append(("", call.name, names[call.name]))
        elif call.what == "data":
            files[names[call.name]] = call.content
        elif call.what == "rename":
            names[call.to] = names.pop(call.name)
            pending.append((call.name, call.to, names[call.to]))
        elif call.what == "unlink" and call.name in names:
            pending.append((call.name, "", names.pop(call.name)))
        elif call.what == "sync":
            certain, pending = dict(names), []
    for chosen in itertools.product((False, True), repeat=len(pending)):
        left = dict(certain)
        for (removed, added, file), happened in zip(pending, chosen, strict=True):
            if happened:
                left.pop(removed, None)
                left.update({added: file} if added else {})
        lost = [file for file in set(left.values()) if files[file] is None]
        for cut in (b"", b"half") if lost else (b"",):
            yield {name: cut if files[file] is None else bytes(files[file] or b"") for name, file in left.items()}


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


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_every_power_cut_leaves_a_valid_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with monkeypatch.context() as patch:
        recorder = Recorder(folder, patch)
        for value, step in enumerate((1, 1, 2, 3, 3), start=1):  # with steps that are saved again
            manifest = {"seconds": 1.0, "config": {}}
            checkpoint.save(folder, step, {"model.w": torch.full((3,), float(value))}, manifest)
            recorder.calls.append(Call("done"))
            retention.prune(folder, step, keep_last=2)
    seen, tried = set[float | None](), 0
    for length in range(len(recorder.calls) + 1):
        calls = recorder.calls[:length]
        done = sum(call.what == "done" for call in calls)
        for state in states(calls):
            for cleaned in (False, True):
                found = value_in(state, tmp_path / "after", cleaned)
                allowed = {float(done) if done else None, float(done + 1)}
                assert found in allowed, (calls[-3:], sorted(state), found, allowed)
                seen.add(found)
                tried += 1
    assert seen == {None, 1.0, 2.0, 3.0, 4.0, 5.0} and tried > 300
