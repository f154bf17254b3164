"""A few of the damages of `make torture`, and what counts as wrong."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_damage_is_found_or_harmless() -> None:
    command = [sys.executable, "-m", "tests.torture.damage", "n=6", "seed=3", "scenes=mixture|evaluation"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)
    assert result.returncode == 0 and "6 trials, 0 wrong" in result.stdout, result.stdout + result.stderr


PROGRAM = """
import sys
from tests.torture import damage, forked
from ddpm_cli.runs import checkpoint
if sys.argv[1] == "blind":  # nothing notices other tensors of the same size
    checkpoint.matches = lambda path, content: path.is_file() and path.stat().st_size == content.get("size")
sys.exit(damage.main(["n=3", "first=25", "seed=1", "scenes=mixture, finished"]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_a_program_that_does_not_look_at_digests_is_wrong() -> None:
    """A torture that finds nothing in it would be none."""
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, "blind"], cwd=ROOT, capture_output=True, text=True, timeout=400, check=False
    )
    assert result.returncode == 1 and "WRONG" in result.stdout, result.stdout + result.stderr
