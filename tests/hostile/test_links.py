"""A run or an output folder of a stranger in which our files are links, pipes, or listed falsely."""

import json
import os
import sys
from pathlib import Path

import pytest

from ..conftest import TINY, Cli

RUN = ["train", "run_dir=r", "trainer.steps=2", "trainer.sample_every=0", "trainer.eval_every=0", "logger=none", *TINY]
posix = pytest.mark.skipif(sys.platform == "win32", reason="links and pipes")


@pytest.fixture
def trained(cli: Cli) -> Cli:
    assert cli(*RUN).code == 0
    return cli


@posix
@pytest.mark.parametrize("name", ["train.log", "metrics.jsonl", "config.json", "data.json", "budget.json", ".lock"])
def test_nothing_is_written_through_a_link(name: str, trained: Cli, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "r" / name).unlink(missing_ok=True)
    (tmp_path / "r" / name).symlink_to(victim)
    result = trained(*RUN, "trainer.steps=4")
    assert result.code in (2, 6) and "is a link, or no file" in result.err and name in result.err, result.err
    assert victim.read_text() == "mine"


@posix
@pytest.mark.parametrize("name", ["samples", "tensorboard"])
def test_no_picture_or_log_leaves_the_run(name: str, trained: Cli, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "r" / name).symlink_to(tmp_path / "elsewhere")
    result = trained(*RUN, "trainer.steps=4", "trainer.sample_every=1", "logger=tensorboard")
    assert result.code == 2 and f"run_dir: {name} in r is a link, or no file; remove it" in result.err
    assert not any((tmp_path / "elsewhere").iterdir())


@posix
def test_checkpoints_may_lie_on_another_disk(trained: Cli, tmp_path: Path) -> None:
    (tmp_path / "r/checkpoints").rename(tmp_path / "disk")
    (tmp_path / "r/checkpoints").symlink_to(tmp_path / "disk")
    result = trained(*RUN, "trainer.steps=4")
    assert result.code == 0 and (tmp_path / "disk/step_00000004.json").is_file()


@posix
@pytest.mark.parametrize("name", ["train.log", "metrics.jsonl", "config.json", "budget.json", ".lock"])
def test_a_pipe_does_not_stop_the_program(name: str, trained: Cli, tmp_path: Path) -> None:
    (tmp_path / "r" / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / "r" / name)
    for command in ([*RUN, "trainer.steps=4"], ["verify", "r"], ["sample", "ckpt=r", "n=1", "sampler.steps=1"]):
        assert trained(*command).code in (0, 2, 4, 6)


def test_a_damaged_list_of_files_is_not_believed(trained: Cli, tmp_path: Path) -> None:
    """Neither is one with ten million names looked through."""
    assert trained("sample", "ckpt=r", "n=2", "sampler.steps=1", "out=o").code == 0
    path = tmp_path / "o/sample.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"n": 9_999_999}, indent=2))
    (tmp_path / "o/images/000007.png").write_text("mine")
    result = trained("sample", "ckpt=r", "n=2", "sampler.steps=1", "out=o")
    assert result.code == 2 and (tmp_path / "o/images/000007.png").read_text() == "mine"
