"""How long threads spin: by processor, by who else is at work, and never against the user's own word."""

import os
from pathlib import Path

import pytest

from ddpm_cli.hardware.threads import FEW, SPINS, SPINS_OF_INTEL, set_spin_count

INTEL, OTHER = "processor\t: 0\nvendor_id\t: GenuineIntel\n", "processor\t: 0\nvendor_id\t: AuthenticAMD\n"
ALONE, BESIDE = "0.10 0.20 0.30 1/80 123\n", f"9.10 9.20 9.30 {1 + (os.cpu_count() or 1)}/80 123\n"


@pytest.mark.parametrize(
    ("load", "cpu", "spins"),
    [
        (ALONE, INTEL, SPINS_OF_INTEL),
        (ALONE, OTHER, SPINS),
        (BESIDE, INTEL, FEW),
        (BESIDE, OTHER, FEW),
        (None, None, SPINS),
        ("strange", "", SPINS),
    ],
)
def test_by_processor_and_load(load: str | None, cpu: str | None, spins: int, tmp_path: Path) -> None:
    for name, text in (("load", load), ("cpu", cpu)):
        if text is not None:
            (tmp_path / name).write_text(text)
    environment: dict[str, str] = {}
    said = set_spin_count(environment, tmp_path / "load", tmp_path / "cpu")
    assert environment == {"GOMP_SPINCOUNT": str(spins)}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    assert (f"OMP_NUM_THREADS={cores // 2} " in said) == (spins == FEW and cores > 1)


@pytest.mark.parametrize("said", [{"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "active"}])
def test_what_the_user_set_stays(said: dict[str, str], tmp_path: Path) -> None:
    environment = dict(said)
    set_spin_count(environment, tmp_path / "load", tmp_path / "cpu")
    assert environment == said


def test_who_chose_the_threads_is_not_told_to(tmp_path: Path) -> None:
    (tmp_path / "load").write_text(BESIDE)
    assert not set_spin_count({"OMP_NUM_THREADS": "1"}, tmp_path / "load", tmp_path / "cpu")
