"""Fixtures: strangers' runs, and commands that are watched while they open them."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

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


@pytest.fixture
def guarded(cli: Cli, tmp_path: Path) -> Cli:
    """`cli`, which fails if the command starts a process, opens a socket, unpickles, or writes outside `tmp_path`."""

    def run(command: str, *arguments: str) -> Result:
        began = time.process_time()
        with watched(tmp_path) as watch, limited():
            result = cli(command, *arguments)
        assert not watch.seen, watch.seen
        assert time.process_time() - began < SLOW, (command, arguments)
        return result

    return run


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
