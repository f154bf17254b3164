"""A few of the kills of `make torture`."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def torture(*arguments: str) -> str:
    command = [sys.executable, "-m", "tests.torture.kills", *arguments]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="forks and kills")
def test_kills_at_random_lose_nothing() -> None:
    assert " 0 wrong" in torture("what=random", "n=3", "cases=diffusion,sample")


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_kills_at_system_calls_lose_nothing() -> None:
    assert "2 trials, 2 killed, 0 wrong" in torture("what=calls", "n=1", "cases=diffusion,sample", "seed=1")
