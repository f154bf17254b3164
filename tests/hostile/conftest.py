"""Fixtures: strangers' runs, and commands that are watched while they open them."""

import logging
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from ddpm_cli import console
from ddpm_cli.config import launch
from ddpm_cli.config.arguments import prepared
from ddpm_cli.config.compose import compose_command
from ddpm_cli.config.shipped import shipped_choices
from ddpm_cli.console.lines import LogHandler
from ddpm_cli.runs.job import Job

from ..conftest import Cli, Result
from .strangers import Stranger, watched

SLOW, HANGS = 3.0, 60
"""Seconds of the processor that no answer takes in a process that has imported torch already; and of the clock."""


class Hangs(BaseException):
    """Not an `Exception`, which the program would report."""


@contextmanager
def limited() -> Iterator[None]:
    """Raises Hangs after a while, so that a file that hangs fails its test."""

    def stop(*_: Any) -> None:
        raise Hangs

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(HANGS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture
def stranger(tmp_path: Path) -> Stranger:
    """The run of a denoiser at `run`."""
    return Stranger.of("digits", tmp_path / "run")


@pytest.fixture
def judge(tmp_path: Path) -> Stranger:
    """The run of a classifier at `judge`."""
    return Stranger.of("resnet", tmp_path / "judge")


@cache
def composed(command: str, arguments: tuple[str, ...]) -> tuple[dict[str, Any], frozenset[str]]:
    """The config of a command line and the keys that it sets; Hydra takes longer than the command itself."""
    config = compose_command(command, prepared(command, arguments))
    given = launch.keys_of(config.hydra.overrides.task)
    return launch.plain(OmegaConf.masked_copy(config, [str(k) for k in config if k != "hydra"])), given


@pytest.fixture
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Cli]:
    """`cli` without Hydra."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(console.out, "_width", 120)
    logger, handler = logging.getLogger("ddpm_cli"), LogHandler()
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)

    def run(command: str, *arguments: str) -> Result:
        capsys.readouterr()
        values, given = composed(command, arguments)
        folder = Path(str(values.get("run_dir") or values.get("out") or "nowhere"))
        folder = folder.parent if folder.suffix == ".gif" else folder
        if command != "table":  # as Hydra does
            folder.mkdir(parents=True, exist_ok=True)
        code = 0
        try:
            launch.run_reserved(command, Job(deepcopy(values), folder, given, choices=shipped_choices))
        except Exception as error:
            code = launch._report(command, arguments, error)
        launch.remove_empty(folder.absolute(), {tmp_path})
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    yield run
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


def guard(run: Cli, folder: Path) -> Cli:
    """`run`, which fails if the command starts a process, opens a socket, unpickles, or writes outside `folder`."""

    def guarded(command: str, *arguments: str) -> Result:
        began = time.process_time()
        with watched(folder) as watch, limited():
            result = run(command, *arguments)
        assert not watch.seen, watch.seen
        assert time.process_time() - began < SLOW, (command, arguments)
        return result

    return guarded


@pytest.fixture
def guarded(quick: Cli, tmp_path: Path) -> Cli:
    return guard(quick, tmp_path)


@pytest.fixture
def real(cli: Cli, tmp_path: Path) -> Cli:
    """The whole command, with Hydra."""
    return guard(cli, tmp_path)


OPENINGS: dict[str, tuple[str, ...]] = {
    "sample": ("sample", "ckpt=run", "n=1", "out=o", "sampler.steps=1"),
    "gif": ("gif", "ckpt=run", "out=o/o.gif", "n=1", "sampler.steps=1"),
    "eval": ("eval", "ckpt=run", "out=o", "n=1", "metrics=[bpd]", "bpd.steps=1", "bpd.ode_steps=1"),
    "finetune": (
        "train", "finetune=run", "run_dir=o", "trainer.steps=1", "trainer.batch_size=4", "trainer.sample_every=0",
        "trainer.eval_every=0", "trainer.compile=false", "logger=none",
    ),
}  # fmt: skip
"""Commands that open the run of a denoiser."""
JUDGED: dict[str, tuple[str, ...]] = {
    "sample": (
        "sample", "ckpt=run", "n=1", "out=o", "sampler.steps=1", "label=1", "guidance=classifier",
        "guidance.classifier=judge",
    ),
    "eval": ("eval", "ckpt=judge", "out=o", "n=1"),
    "cas": ("eval", "ckpt=run", "features=judge", "metrics=[cas]", "cas.steps=1", "n=10", "out=o", "sampler.steps=1"),
    "finetune": (
        "train", "finetune=judge", "run_dir=o", "trainer.steps=1", "trainer.batch_size=4", "logger=none",
        "trainer.eval_every=0", "trainer.compile=false",
    ),
    "table": ("table", "of=judge", "out=o"),
}  # fmt: skip
"""Commands that open the run of a classifier."""
