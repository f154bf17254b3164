"""A run directory is used by one process, and loses nothing while it saves."""

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ddpm_cli.errors import BusyError
from ddpm_cli.runs import checkpoint
from ddpm_cli.runs.directory import RunDirectory
from ddpm_cli.signals import Interrupted

from ..conftest import TINY, Cli
from ..training.test_loop import Quiet
from ..writes import recorded_writes


class Counted:
    """The least that can be saved."""

    seconds = 0.0

    def __init__(self, step: int, best: int | None = None):
        self.step = step
        self.best: Mapping[str, Any] = {} if best is None else {"step": best}

    def notes(self) -> dict[str, Any]:
        return {}

    def tensors(self) -> Mapping[str, Tensor]:
        return {"model.w": torch.full((2,), float(self.step))}


def test_a_folder_is_used_by_one_run(tmp_path: Path) -> None:
    with (
        RunDirectory(tmp_path / "run", Quiet(-1)),
        pytest.raises(BusyError, match="another process is training here"),
        RunDirectory(tmp_path / "run", Quiet(-1)),
    ):
        pass
    with RunDirectory(tmp_path / "run", Quiet(-1)):  # the lock ends with its holder
        pass


def test_older_checkpoints_are_removed_after_the_new_one_is_valid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RunDirectory(tmp_path / "run", Quiet(-1)) as run:
        for step in (1, 2):
            run.save(Counted(step), 2, None)
        with recorded_writes(monkeypatch, tmp_path) as calls:
            run.save(Counted(3), 2, None)
        assert checkpoint.steps_in(run.checkpoints) == {2, 3}
    names = [name for _, *names in calls for name in names]
    assert names.index("step_00000001.safetensors") > names.index("step_00000003.json")
    assert names[-1] == "step_00000001.json"


@pytest.mark.parametrize(("best_by", "left"), [("val_loss", {1, 3, 4}), (None, {3, 4})])
def test_the_best_checkpoint_stays(best_by: str | None, left: set[int], tmp_path: Path) -> None:
    with RunDirectory(tmp_path / "run", Quiet(-1)) as run:
        for step in (1, 2, 3, 4):
            run.save(Counted(step, best=1), 2, best_by)
        assert checkpoint.steps_in(run.checkpoints) == left


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_run_that_ends_while_it_opens_its_loggers_is_still_ours(
    error: type[BaseException], cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(choices: object, folder: Path, *_: object) -> None:
        (folder / "tensorboard").mkdir()
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("ddpm_cli.runs.directory.open_loggers", interrupted)
        assert cli("train", "run_dir=run", "trainer.steps=1", *TINY).code != 0
    result = cli("train", "run_dir=run", "trainer.steps=1", *TINY)
    assert result.code == 0, result.err


def test_the_same_signal_twice_at_once_saves_and_a_later_one_quits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RunDirectory(tmp_path / "run", Quiet(-1)) as run:
        run.open(0, {}, {})
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        assert run.stops.signal == signal.SIGINT
        monkeypatch.setattr("ddpm_cli.runs.stops.AT_ONCE", 0.0)
        with pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGINT)


def test_what_a_kill_left_of_pictures_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "samples"
    with RunDirectory(tmp_path / "run", Quiet(-1)) as run:
        run.save(Counted(1), 2, None)
        run.open(1, {}, {})
    folder.mkdir()
    for name in (".step_00000001.png.12.part", ".latent_map.png.12.part", ".mine.png.12.part"):
        (folder / name).touch()
    with RunDirectory(tmp_path / "run", Quiet(-1)):
        assert [path.name for path in folder.iterdir()] == [".mine.png.12.part"]  # a name that is not ours stays


def test_a_lock_that_was_removed_is_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with RunDirectory(tmp_path / "run", Quiet(-1)) as run:
        run.open(0, {"a": (1, 2)}, {})
        run.save(Counted(1), 2, None)
        (tmp_path / "run/.lock").unlink()
        run.save(Counted(2), 2, None)
        assert checkpoint.steps_in(run.checkpoints) == {1, 2} and (tmp_path / "run/.lock").exists()
        with pytest.raises(BusyError), RunDirectory(tmp_path / "run", Quiet(-1)):
            pass
    assert ".lock: was removed while training; made again" in caplog.text


def test_nothing_is_written_where_another_finished_run_took_the_place(tmp_path: Path) -> None:
    with RunDirectory(tmp_path / "other", Quiet(-1)) as other:
        other.open(0, {"seed": 1}, {})
        other.save(Counted(5), 2, None)
    before = {path: path.read_bytes() for path in (tmp_path / "other").rglob("*") if path.is_file()}
    with (
        pytest.raises(BusyError, match="other files took the place"),
        RunDirectory(tmp_path / "run", Quiet(-1)) as run,
    ):
        run.open(0, {"seed": 0}, {})
        run.save(Counted(1), 2, None)
        (tmp_path / "run").rename(tmp_path / "moved")
        (tmp_path / "other").rename(tmp_path / "run")
        run.save(Counted(2), 2, None)
    after = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    changed = [p.name for p in after if before.get(tmp_path / "other" / p.relative_to(tmp_path / "run")) != after[p]]
    assert changed in ([], ["train.log"])


def test_rows_whose_line_ends_git_has_changed_are_not_damaged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "run/metrics.jsonl"
    with RunDirectory(tmp_path / "run", Quiet(-1)) as run:
        run.open(0, {}, {})
        run.metrics(1, {"loss": 1.0})
        run.save(Counted(1), 2, None)
    text = path.read_bytes()
    path.write_bytes(text.replace(b"\n", b"\r\n"))
    with RunDirectory(tmp_path / "run", Quiet(-1)) as run:
        run.open(1, {}, {})
    assert path.read_bytes() == text and "is not as it was" not in caplog.text
