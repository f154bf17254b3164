"""A few of the signals of `make torture`, and what counts as wrong."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
from tests.torture import stops
from ddpm_cli.runs.stops import Stops
print("as it is:", stops.main(["phase=save", "n=2", "seed=1"]))
Stops._on_stop = lambda self, number, frame: None
print("deaf:", stops.main(["phase=save", "n=1", "seed=1"]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="forks and signals")
def test_signals_inside_a_phase_lose_nothing_and_a_program_that_does_not_stop_is_wrong() -> None:
    """In one process, as most of the time goes into its imports. A torture that finds nothing would be none."""
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, timeout=400, check=False
    )
    out = result.stdout
    assert "2 trials, 0 wrong" in out and "as it is: 0" in out, out + result.stderr
    assert "instant 0 of seed 1: exit code 0" in out and "deaf: 1" in out, out + result.stderr
