"""A run whose checkpoints are gone, moved, newer or out of reach never starts afresh in silence."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ddpm_cli.runs import retention
from ddpm_cli.runs.checkpoint import steps_in

from ..conftest import TINY, Cli
from ..manifests import edit

RUN = ["train", "run_dir=r", "trainer.sample_every=0", "trainer.eval_every=0", "logger=none", *TINY]


@pytest.fixture
def trained(cli: Cli) -> Cli:
    assert cli(*RUN, "trainer.steps=4", "trainer.save_every=2", "trainer.log_every=1").code == 0
    return cli


def renamed(run: Path) -> None:
    (run / "checkpoints").rename(run / "checkpoints.old")


def suffixed(run: Path) -> None:
    for path in (run / "checkpoints").iterdir():
        path.rename(path.with_name(f"{path.name}.bak"))


def other_names(run: Path) -> None:
    for path in (run / "checkpoints").iterdir():
        path.rename(path.with_name(path.name.replace("step", "epoch")))


def deleted(run: Path) -> None:
    for path in (run / "checkpoints").iterdir():
        path.unlink()


def unmounted(run: Path) -> None:
    (run / "checkpoints").rename(run.parent / "disk")
    (run / "checkpoints").symlink_to(run.parent / "away")


def moved_up(run: Path) -> None:
    for path in (run / "checkpoints").iterdir():
        path.rename(run / path.name)


@pytest.mark.parametrize(
    ("lose", "code", "words"),
    [
        (renamed, 4, "has no checkpoint any more, but this run has saved some"),
        (suffixed, 4, "has no checkpoint any more, but this run has saved some"),
        (other_names, 4, "has no checkpoint any more, but this run has saved some"),
        (deleted, 4, "set resume=false to train from scratch here"),
        (unmounted, 6, "checkpoints: is a link to a place that is not there"),
        (moved_up, 2, "run_dir: r has checkpoints in it; a run has them in checkpoints/"),
    ],
)
def test_a_run_without_its_checkpoints(
    lose: Callable[[Path], None], code: int, words: str, trained: Cli, tmp_path: Path
) -> None:
    lose(tmp_path / "r")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    result = trained(*RUN, "trainer.steps=6")
    assert result.code == code and words in result.err, result.err
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file() and p.name != ".lock"} == {
        p: content for p, content in before.items() if p.name != ".lock"
    }


def test_from_scratch_in_its_place_if_told_to(trained: Cli, tmp_path: Path) -> None:
    deleted(tmp_path / "r")
    result = trained(*RUN, "trainer.steps=2", "resume=false")
    assert result.code == 0 and steps_in(tmp_path / "r/checkpoints") == {2}


def test_a_run_that_never_saved_starts_again(cli: Cli, tmp_path: Path) -> None:
    assert cli(*RUN, "trainer.steps=2").code == 0
    (tmp_path / "r/.saved").unlink()  # as if it had been killed before
    deleted(tmp_path / "r")
    assert cli(*RUN, "trainer.steps=2").code == 0


def test_the_folder_of_checkpoints_is_no_run_dir(trained: Cli, tmp_path: Path) -> None:
    result = trained(*RUN, "run_dir=r/checkpoints", "trainer.steps=2")
    assert result.code == 2 and "so name the folder above it" in result.err
    assert not (tmp_path / "r/checkpoints/checkpoints").exists()


@pytest.mark.parametrize("command", [[*RUN, "trainer.steps=6"], ["sample", "ckpt=r", "n=1"], ["verify", "r"]])
def test_a_folder_that_cannot_be_read_is_said(
    command: list[str], trained: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = Path.iterdir

    def refused(path: Path) -> object:
        if path.name == "checkpoints":
            raise PermissionError(13, "Permission denied", str(path))
        return listing(path)

    monkeypatch.setattr(Path, "iterdir", refused)
    result = trained(*command)
    assert result.code == 6 and "checkpoints: Permission denied" in result.err, result.err


def test_a_checkpoint_of_a_newer_version_is_not_undone(trained: Cli, tmp_path: Path) -> None:
    edit(tmp_path / "r/checkpoints/step_00000004.json", lambda content: content.update(format=99))
    for command in ([*RUN, "trainer.steps=6"], ["sample", "ckpt=r", "n=1"]):
        result = trained(*command)
        assert result.code == 4 and "upgrade ddpm-cli" in result.err, result.err
    assert json.loads((tmp_path / "r/checkpoints/step_00000004.json").read_text())["format"] == 99


def test_a_damaged_checkpoint_that_was_passed_over_does_not_count(trained: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "r/checkpoints"
    tensors = folder / "step_00000004.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1] + b"x")
    result = trained(*RUN, "trainer.steps=6", "trainer.save_every=3", "trainer.keep_last=2")
    assert result.code == 0 and "using step 2 instead" in result.err
    assert {3, 6} <= steps_in(folder)


def test_valid_checkpoints_are_kept_beside_skipped_ones(tmp_path: Path) -> None:
    for step in (2, 4, 6, 8):
        (tmp_path / f"step_{step:08d}.json").write_text("{}")
    retention.prune(tmp_path, newest=6, keep_last=2, skipped={4})
    assert steps_in(tmp_path) == {2, 4, 6, 8}
    retention.prune(tmp_path, newest=8, keep_last=2, skipped={4})
    assert steps_in(tmp_path) == {6, 8}
