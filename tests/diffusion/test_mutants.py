"""The tests of the formulas fail if a formula is wrong."""

import os
import subprocess
import sys

import pytest

from .mutants import MUTANTS, ROOT, Mutant, mutated


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: f"{m.module}: {m.new}")
def test_each_mutant_changes_the_current_code(mutant: Mutant) -> None:
    assert mutated(mutant)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_every_mutant_is_caught() -> None:
    """In a process of its own, because it must fork before torch starts its threads."""
    assert len(MUTANTS) >= 20
    command = [sys.executable, "-m", "tests.diffusion.mutants"]
    result = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert result.returncode == 0, result.stdout + result.stderr
