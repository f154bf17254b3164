"""Checkpoints: complete or absent, verified, never silently replaced."""

import errno
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ddpm_cli.errors import CheckpointError, ConfigError
from ddpm_cli.runs import checkpoint, manifest, retention, tensor_file
from ddpm_cli.runs.resume import compare

from ..writes import recorded_writes

MANIFEST = {"seconds": 1.0, "config": {}}


def write(folder: Path, step: int) -> checkpoint.Checkpoint:
    return checkpoint.save(folder, step, {"model.w": torch.full((3,), float(step))}, MANIFEST)


def test_a_round_trip(tmp_path: Path) -> None:
    write(tmp_path, 7)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step_00000007.json", "step_00000007.safetensors"]
    found = checkpoint.latest(tmp_path)
    assert found is not None and found.step == 7
    assert torch.equal(found.tensors("model.")["model.w"], torch.full((3,), 7.0))
    assert found.tensors("ema.") == {}


def test_an_empty_folder_has_none(tmp_path: Path) -> None:
    assert checkpoint.latest(tmp_path) is None
    assert checkpoint.latest(tmp_path / "nowhere") is None


@pytest.mark.parametrize("harm", ["truncate", "flip", "remove", "manifest", "halved manifest"])
def test_a_damaged_newest_falls_back_to_the_one_before(
    tmp_path: Path, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, 1)
    path = write(tmp_path, 2).path
    raw = path.read_bytes()
    if harm == "truncate":
        path.write_bytes(raw[:-1])
    elif harm == "flip":
        path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    elif harm == "remove":
        path.unlink()
    elif harm == "manifest":
        path.with_suffix(".json").unlink()
    else:
        path.with_suffix(".json").write_text(path.with_suffix(".json").read_text()[:30])
    with caplog.at_level(logging.WARNING):
        found = checkpoint.latest(tmp_path)
    assert found is not None and found.step == 1
    assert "using step 1 instead" in caplog.text


def test_no_valid_checkpoint_is_an_error(tmp_path: Path) -> None:
    for step in (1, 2):
        write(tmp_path, step).path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="no older checkpoint is valid"):
        checkpoint.latest(tmp_path)


def test_tensors_without_any_manifest_are_an_error(tmp_path: Path) -> None:
    for step in (1, 2):
        write(tmp_path, step).manifest_path.unlink()
    with pytest.raises(CheckpointError, match="without a manifest"):
        checkpoint.latest(tmp_path)


def test_tensors_that_lost_their_manifest_never_train_from_scratch(tmp_path: Path) -> None:
    write(tmp_path, 1).manifest_path.unlink()
    with pytest.raises(CheckpointError, match="restore the .json files, or delete the .safetensors files"):
        checkpoint.latest(tmp_path)


CALLS = ("os.replace", "os.rename", "os.unlink", "os.fsync")


@pytest.mark.parametrize("again", [False, True], ids=["first", "again"])
def test_a_save_that_is_killed_at_any_call_leaves_a_valid_state(
    again: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before each change of a file the folder is copied, as a kill would leave it there."""
    folder, states = tmp_path / "run", []
    if again:
        checkpoint.save(folder, 1, {"model.w": torch.zeros(3)}, MANIFEST)

    def recorded(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            states.append(shutil.copytree(folder, tmp_path / str(len(states))))
            return original(*args, **options)

        return call

    for name in CALLS:
        monkeypatch.setattr(name, recorded(getattr(os, name.partition(".")[2])))
    checkpoint.save(folder, 1, {"model.w": torch.ones(3)}, MANIFEST)
    monkeypatch.undo()
    states.append(folder)
    assert len(states) > 6
    values = []
    for state in states:
        for _ in range(2):  # as it is, for a reader; and after the next start has cleaned up
            found = checkpoint.latest(state)
            values.append(None if found is None else float(found.tensors()["model.w"][0]))
            retention.clean(state)
        assert values[-1] == values[-2]
        left = sorted(p.name for p in state.iterdir())
        assert left == ([] if values[-1] is None else ["step_00000001.json", "step_00000001.safetensors"])
    assert values == sorted(values, key=lambda v: -1 if v is None else v)
    assert values[0] == (0.0 if again else None) and values[-1] == 1.0


@pytest.mark.skipif(os.name != "posix", reason="folders are synced on POSIX only")
def test_a_save_syncs_and_renames_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is renamed is on the disk before, and each rename before the next one."""
    with recorded_writes(monkeypatch, tmp_path) as calls:
        write(tmp_path, 1)
    tensors, end = "step_00000001.safetensors", f".{os.getpid()}.part"
    expected: list[tuple[str, ...]] = []
    for part, name in (
        (f"..{tensors}.new{end}", f".{tensors}.new"),
        (f".step_00000001.json{end}", "step_00000001.json"),
    ):
        expected += [("sync", part), ("rename", part, name), ("sync", tmp_path.name)]
    assert calls == [*expected, ("rename", f".{tensors}.new", tensors), ("sync", tmp_path.name)]


def test_a_manifest_cannot_say_that_it_has_no_digest(tmp_path: Path) -> None:
    """A changed manifest does not pass as one of the format that had no digest."""
    saved = write(tmp_path, 1)
    changed = {**saved.manifest, "format": 1, "seconds": 2.0}
    saved.manifest_path.write_text(json.dumps(changed))
    with pytest.raises(CheckpointError, match="is damaged"):
        checkpoint.load(saved.manifest_path)


def test_a_checkpoint_under_the_name_of_another_step_is_damaged(tmp_path: Path) -> None:
    saved = write(tmp_path, 1)
    for path in (saved.path, saved.manifest_path):
        path.rename(path.with_name(path.name.replace("1", "9")))
    with pytest.raises(CheckpointError, match="step_00000009.json: is damaged"):
        checkpoint.latest(tmp_path)


@pytest.mark.parametrize("bit", range(8))
def test_every_flip_of_a_manifest_is_found(bit: int, tmp_path: Path) -> None:
    file = write(tmp_path, 1).manifest_path
    raw = file.read_bytes()
    for i in range(len(raw)):
        file.write_bytes(raw[:i] + bytes([raw[i] ^ 1 << bit]) + raw[i + 1 :])
        with pytest.raises(CheckpointError):
            checkpoint.load(file)
    file.write_bytes(raw.replace(b"\n", b"\r\n"))
    assert checkpoint.load(file).step == 1


def test_checkpoints_of_the_first_format_still_load(tmp_path: Path) -> None:
    saved = write(tmp_path, 1)
    old = {name: value for name, value in saved.manifest.items() if name != "digest"} | {"format": 1}
    saved.manifest_path.write_text(json.dumps(old, indent=2))
    assert checkpoint.load(saved.manifest_path).tensors("model.")["model.w"].tolist() == [1.0] * 3


@pytest.mark.parametrize("text", ["[" * 100_000, "{}", "[]", "null", "NaN", '{"format": 2}', '{"format": 1e999}', ""])
def test_a_manifest_that_is_no_manifest_is_damaged(text: str, tmp_path: Path) -> None:
    file = write(tmp_path, 1).manifest_path
    file.write_text(text)
    with pytest.raises(CheckpointError, match="is damaged"):
        checkpoint.load(file)


@pytest.mark.parametrize("head", [b"\xff" * 8, b"\x08" + b"\0" * 7 + b"[[[[[[[[", b"\x02" + b"\0" * 7 + b"{}tail", b""])
def test_tensors_that_are_none_are_one_line(head: bytes, tmp_path: Path) -> None:
    saved = write(tmp_path, 1)
    saved.path.write_bytes(head)
    content = {k: v for k, v in saved.manifest.items() if k not in ("format", "digest")}
    manifest.write(saved.manifest_path, content | {"size": len(head), "sha256": hashlib.sha256(head).hexdigest()})
    for read in (checkpoint.Checkpoint.tensors, checkpoint.Checkpoint.shapes):
        with pytest.raises(CheckpointError, match="its tensors cannot be read"):
            read(checkpoint.load(saved.manifest_path))


@pytest.mark.parametrize(
    "change", [{"config": None}, {"seconds": None}, {"step": 7}, {"size": "many"}], ids=lambda c: next(iter(c))
)
def test_a_manifest_of_the_wrong_shape_is_damaged(change: dict[str, object], tmp_path: Path) -> None:
    saved = write(tmp_path, 1)
    saved.manifest_path.write_text(json.dumps({**saved.manifest, **change}))
    with pytest.raises(CheckpointError, match="is damaged"):
        checkpoint.load(saved.manifest_path)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    saved = write(tmp_path, 1)
    saved.manifest_path.write_text(json.dumps({**saved.manifest, "format": 99}))
    with pytest.raises(CheckpointError, match="format 99.*upgrade"):
        checkpoint.load(saved.manifest_path)


@pytest.mark.parametrize("fails", ["tensors", "manifest"])
def test_a_full_disk_leaves_the_older_one(tmp_path: Path, fails: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, 1)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    where = (tensor_file, "save_file") if fails == "tensors" else (manifest, "write_atomically")
    monkeypatch.setattr(*where, full)
    with pytest.raises(OSError, match="No space"):
        write(tmp_path, 2)
    monkeypatch.undo()
    assert not list(tmp_path.glob(".*"))
    found = checkpoint.latest(tmp_path)
    assert found is not None and found.step == 1


def test_only_leftovers_of_a_killed_save_are_removed(tmp_path: Path) -> None:
    write(tmp_path, 1)
    for mine in (".tmpdir", ".tmpnotes.txt", ".x.part"):
        (tmp_path / mine).mkdir()
    for mine in (".my_step_notes.part", ".my_step_1.notes.part"):
        (tmp_path / mine).write_text("mine as well")
    kept = sorted(tmp_path.iterdir())
    (tmp_path / ".tmpZEniK").write_bytes(b"half of the tensors")
    (tmp_path / ".step_00000002.json.17.part").write_text("{")
    (tmp_path / "..step_00000002.safetensors.new.17.part").write_text("{")
    (tmp_path / ".step_00000002.safetensors.new").write_text("{")
    retention.clean(tmp_path)
    assert sorted(tmp_path.iterdir()) == kept


@pytest.mark.skipif(os.name != "posix", reason="file modes exist on POSIX only")
def test_tensors_have_the_same_permissions_as_the_manifest(tmp_path: Path) -> None:
    for mask in (0o022, 0o027):
        before = os.umask(mask)
        try:
            saved = checkpoint.save(tmp_path, mask, {"model.w": torch.ones(3)}, {})
            assert os.umask(mask) == mask  # it was only read
        finally:
            os.umask(before)
        modes = {path.stat().st_mode & 0o777 for path in (saved.path, saved.manifest_path)}
        assert modes == {0o666 & ~mask}


def test_prune_keeps_the_newest_and_the_best(tmp_path: Path) -> None:
    for step in range(1, 7):
        write(tmp_path, step)
    retention.prune(tmp_path, newest=6, keep_last=2, keep=3)
    assert sorted(p.name for p in tmp_path.glob("*.json")) == [f"step_{n:08d}.json" for n in (3, 5, 6)]
    assert len(list(tmp_path.iterdir())) == 6


def test_prune_does_not_count_later_steps(tmp_path: Path) -> None:
    """A run that resumed from before damaged checkpoints keeps its valid ones."""
    for step in (1, 2, 3, 8, 9):
        write(tmp_path, step)
    retention.prune(tmp_path, newest=3, keep_last=2)
    assert sorted(int(p.stem[5:]) for p in tmp_path.glob("*.json")) == [2, 3, 8, 9]


def test_find_accepts_a_run_a_folder_or_a_file(tmp_path: Path) -> None:
    saved = write(tmp_path / "run" / "checkpoints", 5)
    for where in (tmp_path / "run", tmp_path / "run" / "checkpoints", saved.path, saved.manifest_path):
        assert checkpoint.find(where).step == 5
    for where, message in (
        (tmp_path / "nope", "does not exist"),
        (tmp_path, "has no checkpoints"),
        (tmp_path / "nope.safetensors", "is missing"),
    ):
        with pytest.raises(CheckpointError, match=message):
            checkpoint.find(where)


def test_a_run_older_than_an_option_resumes_with_its_default() -> None:
    """The config of the run does not have the key; another value than the default is refused."""
    old = {"schedule": {"steps": 10}, "objective": {}, "model": {}}
    new = {
        "schedule": {"steps": 10, "shift": 1.0, "zero_terminal_snr": False},
        "objective": {"label_dropout": 0.0, "weighting": {"_target_": "ddpm_cli.objectives.weighting.Simple"}},
        "model": {"self_condition": False},
    }
    compare(old, new, "here")
    for group, key, value, was in (("schedule", "shift", 2.0, "1.0"), ("objective", "label_dropout", 0.1, "0.0")):
        changed = {**new, group: {**new[group], key: value}}
        with pytest.raises(ConfigError, match=rf"{group}.{key}: is {value}, but here was trained with {was}"):
            compare(old, changed, "here")


def test_a_reader_follows_tensors_that_get_their_own_name_while_it_opens_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint.save(tmp_path, 1, {"model.w": torch.ones(2)}, MANIFEST)
    path = tmp_path / "step_00000001.safetensors"
    first = path.rename(checkpoint.first_name(path))
    found = checkpoint.load(tmp_path / "step_00000001.json")
    assert found.source == first
    original = checkpoint.safe_open

    def renamed_meanwhile(name: Path, *arguments: str) -> object:
        if first.exists():
            first.rename(path)
        return original(name, *arguments)

    monkeypatch.setattr(checkpoint, "safe_open", renamed_meanwhile)
    assert found.tensors()["model.w"].tolist() == [1, 1]
