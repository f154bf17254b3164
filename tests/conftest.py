"""Runs the program as a user would, in a folder of its own."""

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

os.environ["OMP_NUM_THREADS"] = "1"  # programs that tests start add up floats in the same order as this process
torch.set_num_threads(1)  # tests run side by side

TINY = [
    "model.channels=8",
    "model.multipliers=[1,2]",
    "trainer.batch_size=4",
    "trainer.samples=2",
    "trainer.eval_images=4",
]
"""Turns any run into one of seconds."""


class Result(NamedTuple):
    code: int
    out: str
    err: str


Cli = Callable[..., Result]


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """cli("train", "trainer.steps=2", ...) in `tmp_path`, in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setattr(console.out, "_width", 120)  # whatever COLUMNS said when the console was made

    def run(command: str, *arguments: str) -> Result:
        capsys.readouterr()
        argv = list(sys.argv)
        try:
            code = launch(command, list(arguments))
        finally:
            sys.argv = argv
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """program("train", ...) as a process of its own, in `tmp_path`."""

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
