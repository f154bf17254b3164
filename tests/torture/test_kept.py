"""Inputs that once broke the contract, and some random ones of each kind, in a process that forks for each."""

import os
import subprocess
import sys

import pytest

from .faults import FAULTS, Fault
from .fuzz import KINDS, case, kept
from .mutants import mutated
from .server import ROOT, Case

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.mark.parametrize("which", ["kept", "short"])
def test_every_input_ends_as_a_run_or_as_one_line(which: str) -> None:
    """In a process of its own, because it must fork before torch starts its threads."""
    command = [sys.executable, "-m", "tests.torture.fuzz", which]
    result = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_a_case_follows_from_its_seed_and_can_be_kept(kind: str) -> None:
    for number in range(30):
        made = case(kind, 0, number)
        assert made == case(kind, 0, number) == Case.of(made.line())


def test_kept_cases_can_be_read() -> None:
    assert len(list(kept())) > 0


def test_there_are_enough_faults() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 40


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_each_fault_changes_the_current_code(fault: Fault) -> None:
    assert mutated(fault)
