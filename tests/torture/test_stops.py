"""A few of the signals of `make torture`, and what counts as wrong."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from tests.torture import stops
from ddpm_cli.runs.stops import Stops
if sys.argv[1] == "deaf":
    Stops._on_stop = lambda self, number, frame: None
sys.exit(stops.main(["phase=save", "n=2", "seed=1"]))
"""


def torture(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=400, check=False
    )


@pytest.mark.skipif(sys.platform != "linux", reason="forks and signals")
def test_signals_inside_a_phase_lose_nothing() -> None:
    result = torture("-m", "tests.torture.stops", "phase=scan,end", "n=2", "seed=1")
    assert result.returncode == 0 and result.stdout.count("2 trials, 0 wrong") == 2, result.stdout + result.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="forks and signals")
def test_a_program_that_does_not_stop_is_wrong() -> None:
    """A torture that finds nothing in it would be none."""
    result = torture("-c", PROGRAM, "deaf")
    assert result.returncode == 1 and "exit code 0" in result.stdout, result.stdout + result.stderr
