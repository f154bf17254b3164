"""Rules for every command: mistakes are reported before data are read, and the config is never changed."""

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from ddpm_cli.config import launch
from ddpm_cli.data.source import Source
from ddpm_cli.runs.job import Job

from ..conftest import TINY, Cli

COMMANDS = {
    "train": ["run_dir=b", "trainer.steps=2", *TINY],
    "sample": ["ckpt=a", "n=2", "out=c"],
    "gif": ["ckpt=a", "n=2", "frames=4", "out=d"],
    "eval": ["ckpt=a", "n=4", "metrics=[bpd]", "bpd.terms=2", "out=e"],
    "bench": ["what=sample", "windows=1", "seconds=0.01", "warmup=0", *TINY],
    "table": ["of=[e]"],
}
WRONG = ["sampler=ddim", "sampler.steps=2000"]  # the schedule has 1,000


@pytest.fixture
def trained(cli: Cli) -> None:
    assert cli("train", "run_dir=a", "trainer.steps=2", "sampler.steps=2", *TINY).code == 0


@pytest.mark.parametrize("command", [c for c in COMMANDS if c != "table"])
def test_a_wrong_sampler_is_refused_before_data_are_read(
    command: str, cli: Cli, trained: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: Any, **__: Any) -> None:
        raise AssertionError("data were read")

    for source in (Source, *Source.__subclasses__()):
        if "load" in vars(source):
            monkeypatch.setattr(source, "load", load)
    extra = ["metrics=[memorisation]"] if command == "eval" else []
    result = cli(command, *COMMANDS[command], *extra, *WRONG)
    assert result.code == 2 and "sampler.steps" in result.err.splitlines()[-1], result.err


def test_no_command_changes_its_config(cli: Cli, trained: None, monkeypatch: pytest.MonkeyPatch) -> None:
    run = launch.run
    seen: list[str] = []

    def watched(name: str, job: Job) -> None:
        before = deepcopy(dict(job.config))
        run(name, job)
        assert isinstance(job.config, Mapping) and dict(job.config) == before
        seen.append(name)

    monkeypatch.setattr(launch, "run", watched)
    for command, arguments in COMMANDS.items():
        result = cli(command, *arguments)
        assert result.code == 0, result.err
    assert seen == list(COMMANDS)


def test_a_job_from_python_knows_what_was_set(cli: Cli, tmp_path: Path) -> None:
    cli("table", "of=[none]")  # moves into tmp_path
    job = launch.call("train", ["run_dir=b", "trainer.steps=2", "sampler.steps=2", *TINY])
    assert job.sets("sampler") and job.sets("sampler.steps") and not job.sets("schedule")
    assert (tmp_path / "b/config.json").is_file()
