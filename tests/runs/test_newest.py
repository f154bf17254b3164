"""outputs/latest: a link, or a text file where links cannot be made."""

from pathlib import Path

import pytest

from ddpm_cli.errors import CheckpointError
from ddpm_cli.runs import checkpoint, newest
from ddpm_cli.runs.newest import LATEST, followed, point_latest

from ..conftest import TINY, Cli


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def without_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "symlink_to", refuse)


def test_a_link_points_at_the_newest_run(here: Path) -> None:
    for name in ("a", "b"):
        (here / name).mkdir()
        point_latest(Path(name))
        assert LATEST.is_symlink() and LATEST.resolve() == here / name
    assert followed(LATEST / "checkpoints") == LATEST / "checkpoints"
    assert [p.name for p in LATEST.parent.iterdir()] == ["latest"]


def test_a_text_file_does_where_there_are_no_links(here: Path, without_links: None) -> None:
    for name in ("a", "b c"):
        (here / name).mkdir()
        point_latest(Path(name))
        assert LATEST.is_file() and followed(LATEST).resolve() == here / name
        assert followed(LATEST / "checkpoints" / "x.json").resolve() == here / name / "checkpoints" / "x.json"
    assert [p.name for p in LATEST.parent.iterdir()] == ["latest"]
    assert followed(Path("a")) == Path("a")
    with pytest.raises(CheckpointError, match=r"^outputs/latest \(b c\): has no checkpoints"):
        checkpoint.find(LATEST)


def test_a_link_replaces_a_text_file(here: Path) -> None:
    (here / "a").mkdir()
    LATEST.parent.mkdir()
    LATEST.write_text("run: ../other\n", encoding="utf-8")
    point_latest(Path("a"))
    assert LATEST.is_symlink()


def test_another_drive_gets_an_absolute_path(here: Path, without_links: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> str:
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    monkeypatch.setattr(newest.os.path, "relpath", refuse)
    point_latest(here / "a")
    assert LATEST.read_text(encoding="utf-8") == f"run: {here / 'a'}\n" and followed(LATEST) == here / "a"


@pytest.mark.parametrize("content", [b"", b"anything", b"\xff\xfe", b"run: \n", b"run: a\nb\n"])
def test_another_file_of_that_name_is_not_followed(content: bytes, here: Path) -> None:
    LATEST.parent.mkdir()
    LATEST.write_bytes(content)
    assert followed(LATEST) == LATEST


def test_commands_follow_the_text_file(cli: Cli, without_links: None, tmp_path: Path) -> None:
    assert cli("train", "run_dir=a", "trainer.steps=2", "sampler.steps=2", *TINY).code == 0
    assert (tmp_path / LATEST).is_file()
    assert cli("sample", "n=2", "sampler.steps=2", "out=s").code == 0
    result = cli("train", f"run_dir={LATEST}", "trainer.steps=4", "sampler.steps=2", *TINY)
    assert result.code == 0 and "resuming from step 2" in result.err
    assert (tmp_path / "a/checkpoints/step_00000004.json").is_file()
    assert "is a run without an evaluation" in cli("table").err
