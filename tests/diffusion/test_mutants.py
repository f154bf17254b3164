"""The tests of the maths fail when the maths is wrong."""

import os
import subprocess
import sys

import pytest

from .mutants import MUTANTS, ROOT, Mutant, mutated


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: f"{m.module}: {m.new}")
def test_each_mutant_is_a_change_of_the_code_as_it_stands(mutant: Mutant) -> None:
    assert mutated(mutant)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_every_mutant_is_caught() -> None:
    """In a process of its own: forks must come before torch has started its threads."""
    assert len(MUTANTS) >= 20
    command = [sys.executable, "-m", "tests.diffusion.mutants"]
    result = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert result.returncode == 0, result.stdout + result.stderr
