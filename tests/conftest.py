"""Fixtures that run the program as a user would, in a temporary folder."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from ddpm_cli import console
from ddpm_cli.config.launch import launch

os.environ["OMP_NUM_THREADS"] = "1"  # so that subprocesses add floats in the same order as this process
os.environ["TORTURE_RECORD"] = os.devnull  # what the tests try is not part of the record of `make torture`
torch.set_num_threads(1)  # tests run in parallel

slow = pytest.mark.skipif("DDPM_SLOW" not in os.environ, reason="takes long; runs in make torture")
TINY = [
    "model.channels=8",
    "model.multipliers=[1,2]",
    "trainer.batch_size=4",
    "trainer.samples=2",
    "trainer.eval_images=4",
]
"""Overrides that make any run take only seconds."""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test writes into the current folder, say outputs/latest, is not written into the repository."""
    monkeypatch.chdir(tmp_path)


class Result(NamedTuple):
    code: int
    out: str
    err: str


Cli = Callable[..., Result]


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Cli:
    """cli("train", "trainer.steps=2", ...) in `tmp_path`, in this process."""
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setattr(console.out, "_width", 120)  # whatever COLUMNS was when the console was created

    def run(command: str, *arguments: str) -> Result:
        capfd.readouterr()
        argv = list(sys.argv)
        try:
            code = launch(command, list(arguments))
        finally:
            sys.argv = argv
        captured = capfd.readouterr()
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """program("train", ...) starts a subprocess in `tmp_path`."""

    def start(*arguments: str) -> subprocess.Popen[str]:
        code = "from ddpm_cli.cli import main; main()"
        root = str(Path(__file__).parents[1])
        path = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
        return subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            cwd=tmp_path,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": path},
        )

    return start
