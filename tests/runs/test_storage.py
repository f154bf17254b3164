"""A disk that fails: what stays valid, what training goes on without, and what the message says."""

import errno
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from filelock import Timeout
from safetensors import SafetensorError

from ddpm_cli import files
from ddpm_cli.errors import StorageError, explain
from ddpm_cli.files import replace, sync_folder, write_json
from ddpm_cli.locks import Lock
from ddpm_cli.runs import checkpoint, retention, tensor_file
from ddpm_cli.runs.logs import Rows

from ..conftest import TINY, Cli

TRAIN = ["run_dir=run", "trainer.log_every=1", "trainer.save_every=1", "trainer.sample_every=2", "sampler.steps=2"]
TRAIN += ["logger=none", "trainer.steps=4", *TINY]
MANIFEST = {"seconds": 1.0, "config": {}}


def save(folder: Path, step: int, value: float = 1.0) -> None:
    checkpoint.save(folder, step, {"model.w": torch.full((3,), value)}, MANIFEST)


def failing(number: int, when: Callable[..., bool] = lambda *_: True, times: int = 10**9) -> Any:
    """A decorator: the function fails with this error, the first `times` times that `when` is true."""

    def wrap(function: Any) -> Any:
        left = times

        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            if left and when(*arguments):
                left -= 1
                raise OSError(number, os.strerror(number), *(str(a) for a in arguments[:1] if isinstance(a, Path)))
            return function(*arguments, **options)

        return call

    return wrap


@pytest.mark.skipif(sys.platform != "linux", reason="needs flock and /proc")
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_lock_where_the_file_system_has_none(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import fcntl

    places = tmp_path / "temporary", tmp_path / "network"
    for place in places:
        place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(places[0]))

    def on_network(handle: int, *_: object) -> bool:
        return Path(f"/proc/self/fd/{handle}").readlink().is_relative_to(places[1])

    monkeypatch.setattr(fcntl, "flock", failing(number, on_network)(fcntl.flock))
    lock = Lock(places[1] / ".lock")
    assert "network: its file system has no locks; do not use the folder from another machine" in caplog.text
    assert lock.in_place and (places[1] / ".lock").is_file()
    with pytest.raises(Timeout):
        Lock(places[1] / ".lock")
    lock.release()
    Lock(places[1] / ".lock").release()
    shutil.rmtree(places[1])
    assert not lock.in_place


def test_a_lock_that_fails_names_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setattr(fcntl, "flock", failing(errno.EIO)(fcntl.flock))
    with pytest.raises(OSError, match="Input/output error") as error:
        Lock(tmp_path / ".lock")
    assert explain(error.value)[0].startswith(f"{tmp_path / '.lock'}: Input/output error; check the path")


def test_a_rename_that_fails_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text("x")
    for number in (errno.EBUSY, errno.ESTALE, errno.EIO):
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", failing(number, times=2)(Path.replace))
            replace(tmp_path / "a", tmp_path / "b")
            replace(tmp_path / "b", tmp_path / "a")
    monkeypatch.setattr(files, "PATIENCE", 0.1)
    monkeypatch.setattr(Path, "replace", failing(errno.EIO)(Path.replace))
    with pytest.raises(OSError, match="Input/output error"):
        replace(tmp_path / "a", tmp_path / "b")


@pytest.mark.skipif(os.name != "posix", reason="folders are not synced")
def test_a_folder_that_cannot_be_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = lambda handle: Path(f"/dev/fd/{handle}").is_dir()  # noqa: E731
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing(errno.EINVAL, folder)(os.fsync))
        write_json(tmp_path / "a.json", 1)
    monkeypatch.setattr(os, "fsync", failing(errno.EIO)(os.fsync))
    with pytest.raises(OSError, match="Input/output error") as error:
        sync_folder(tmp_path)
    assert explain(error.value)[0].startswith(f"{tmp_path}: ")


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (errno.EMFILE, "Too many open files; allow more open files (ulimit -n 4096)"),
        (errno.EFBIG, "File too large; allow larger files (ulimit -f unlimited)"),
        (errno.ENOSPC, "No space left on device; free some space"),
    ],
)
def test_the_advice(number: int, text: str) -> None:
    message, code = explain(OSError(number, os.strerror(number), "a/file"))
    assert code == 6 and message.startswith(f"a/file: {text}")


@pytest.mark.parametrize(
    "text",
    [
        "Error while serializing: I/O error: File too large (os error 27)",
        'Error while serializing: IoError(Os { code: 27, kind: FileTooLarge, message: "File too large" })',
    ],
)
def test_an_error_of_the_system_in_safetensors(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise SafetensorError(text)

    monkeypatch.setattr(tensor_file, "save_file", refuse)
    with pytest.raises(OSError, match="File too large") as error:
        save(tmp_path, 1)
    assert error.value.errno == 27 and "step_00000001.safetensors: File too large; allow" in explain(error.value)[0]
    assert not list(tmp_path.iterdir())


def test_a_file_system_without_permissions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "chmod", failing(errno.EPERM)(Path.chmod))
    save(tmp_path, 1)
    assert checkpoint.find(tmp_path).step == 1


@pytest.mark.parametrize("number", [errno.EROFS, errno.EIO, errno.EBUSY, errno.EACCES])
def test_old_checkpoints_that_cannot_be_removed(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for step in range(1, 5):
        save(tmp_path, step)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", failing(number)(Path.unlink))
        retention.prune(tmp_path, 4, 2)
    assert "cannot be removed" in caplog.text and checkpoint.steps_in(tmp_path) == {1, 2, 3, 4}
    retention.prune(tmp_path, 4, 2)
    assert checkpoint.steps_in(tmp_path) == {3, 4}


def test_tensors_that_cannot_get_their_name_stay_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PATIENCE", 0.1)
    with monkeypatch.context() as patch:
        is_first = lambda path, *_: path.name.endswith(".new")  # noqa: E731
        patch.setattr(Path, "replace", failing(errno.EIO, is_first)(Path.replace))
        save(tmp_path, 1)
    assert float(checkpoint.find(tmp_path).tensors()["model.w"][0]) == 1.0
    retention.clean(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"step_00000001.json", "step_00000001.safetensors"}


def test_a_manifest_that_cannot_be_read_costs_no_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error comes after the manifest of a step that is saved again was renamed, and then nothing can be opened."""
    save(tmp_path, 1, 1.0)
    original, seen = files.sync_folder, list[Path]()

    def fail(folder: Path) -> None:
        seen.append(folder)
        if len(seen) == 2:  # of the manifest
            monkeypatch.setattr(checkpoint.manifests, "read_regular", failing(errno.EMFILE)(files.read_regular))
            raise OSError(errno.EMFILE, "Too many open files", str(folder))
        original(folder)

    with monkeypatch.context() as patch:
        patch.setattr(files, "sync_folder", fail)
        with pytest.raises(OSError, match="Too many open files"):
            save(tmp_path, 1, 2.0)
        retention.clean(tmp_path)
    monkeypatch.undo()
    assert float(checkpoint.find(tmp_path).tensors()["model.w"][0]) == 2.0


def test_too_many_open_files_are_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "digest", failing(errno.EMFILE)(checkpoint.digest))
        with pytest.raises(OSError, match="Too many open files"):
            checkpoint.find(tmp_path)
    monkeypatch.setattr(checkpoint, "digest", failing(errno.EIO, lambda p: "2" in p.name)(checkpoint.digest))
    assert checkpoint.find(tmp_path).step == 1  # a bad sector


def test_a_row_that_does_not_fit_leaves_no_part(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    path = tmp_path / "metrics.jsonl"
    Rows(path).add({"step": 1})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as error:
            Rows(path).add({"step": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert error.value.filename == str(path)
    Rows(path).add({"step": 3})
    assert path.read_text() == '{"step": 1}\n{"step": 3}\n'


@pytest.mark.skipif(os.name != "posix", reason="Windows removes no open file")
def test_a_run_whose_folder_is_removed_is_saved(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ddpm_cli.runs.directory import RunDirectory

    original = RunDirectory.metrics

    def metrics(self: RunDirectory, step: int, row: Any) -> None:
        if step == 3:
            shutil.rmtree(tmp_path / "run")
        original(self, step, row)

    monkeypatch.setattr(RunDirectory, "metrics", metrics)
    result = cli("train", *TRAIN)
    assert result.code == 0 and "run: was removed while training; made again, without" in result.err, result.err
    assert checkpoint.find(tmp_path / "run").step == 4
    assert "finished at step 4" in (tmp_path / "run/train.log").read_text()
    again = cli("train", *TRAIN)
    assert again.code == 0 and "already finished (step 4)" in again.out, again.err


def test_a_run_that_takes_the_place_of_another(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ddpm_cli.runs.directory import RunDirectory

    original, others = RunDirectory.metrics, list[Lock]()

    def metrics(self: RunDirectory, step: int, row: Any) -> None:
        if step == 3:
            shutil.rmtree(tmp_path / "run")
            (tmp_path / "run").mkdir()
            others.append(Lock(tmp_path / "run/.lock"))
        original(self, step, row)

    monkeypatch.setattr(RunDirectory, "metrics", metrics)
    result = cli("train", *TRAIN)
    others[0].release()
    assert result.code == 8 and "run: another process is training here" in result.err, result.err
    assert not (tmp_path / "run/checkpoints").exists()


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.mark.parametrize("model", ["unet_tiny", "gmm"])
def test_a_run_without_room_does_not_start(
    model: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ddpm_cli.training.room.shutil.disk_usage", lambda folder: Usage(2**30, 2**30, 2**20))
    run = ["run_dir=run", "trainer.steps=4", "trainer.save_every=1", "logger=none", f"model={model}"]
    result = cli("train", *run, *(TINY if model != "gmm" else []))
    assert result.code == 6, result.err
    assert "run: 4 checkpoints need about" in result.err and "but the disk has 1.0 MiB free; free some" in result.err
    assert not (tmp_path / "run").exists() and not (tmp_path / "outputs").exists()


def test_the_room_that_a_run_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ddpm_cli.training.ema import EMA
    from ddpm_cli.training.plan import Decay, Plan
    from ddpm_cli.training.room import SPARE, check_room
    from ddpm_cli.training.state import TrainState

    module = torch.nn.Linear(1000, 1000)
    state = TrainState(module, torch.optim.Adam(module.parameters()), EMA(module, Decay()))
    size, free = sum(p.nbytes for p in module.parameters()), 0
    monkeypatch.setattr("ddpm_cli.training.room.shutil.disk_usage", lambda folder: Usage(2**40, 0, free))

    def needed(plan: Plan) -> float:
        """In checkpoints with weights, their average and two moments."""
        nonlocal free
        for n in range(1, 20):
            free = int(n * 4 * size + SPARE)
            try:
                check_room(tmp_path, state, plan, 100)
                return n
            except StorageError:
                pass
        return 0

    assert needed(Plan(steps=10, save_every=0)) == 1
    assert needed(Plan(steps=10, save_every=1, keep_last=3)) == 4
    assert needed(Plan(steps=10, save_every=1, keep_last=3, best_by="loss")) == 5
    assert needed(Plan(steps=10, save_every=5, keep_last=3)) == 2
    assert needed(Plan(steps=10, save_every="epoch", batch_size=20, keep_last=9)) == 2
    (tmp_path / "checkpoints").mkdir()
    for step in (1, 2, 3):
        save(tmp_path / "checkpoints", step)
    assert needed(Plan(steps=10, save_every=1, keep_last=3)) == 1


def test_a_budget_goes_on_where_its_file_cannot_be_written(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ddpm_cli.training.course.write_sealed", failing(errno.ENOSPC)(write_json))
    run = ["run_dir=run", "trainer.budget=2s", "logger=none", "trainer.sample_every=0", *TINY]
    result = cli("train", *run)
    assert result.code == 0, result.err
    assert "run/budget.json: cannot be written (No space left on device); training goes on" in result.err
    kept = [json.loads(p.read_text())["chosen"] for p in (tmp_path / "run/checkpoints").glob("*.json")]
    assert all("budget" in chosen for chosen in kept)


def test_an_animation_is_refused_before_the_checkpoint_is_read(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "write_bytes", failing(errno.ENOSPC)(Path.write_bytes))
    result = cli("gif", "ckpt=nowhere", "out=new/x.gif")
    assert result.code == 6 and "new/x.gif: No space left on device; free some space" in result.err, result.err
    assert not (tmp_path / "new").exists()


def test_an_evaluation_ends_without_tensorboard(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from ddpm_cli.evaluation.report import EvaluationFolder

    folder = EvaluationFolder(tmp_path)
    (tmp_path / "tensorboard").write_text("in the way")
    folder.write_scalars({"a": 1.0}, 0)
    assert "logger.tensorboard: cannot start" in caplog.text
