"""The spin count depends on the processor and the load, and never overrides the user's settings."""

import os
from pathlib import Path

import pytest

from ddpm_cli.hardware.threads import FEW, SPINS, SPINS_OF_INTEL, set_spin_count

INTEL, OTHER = "processor\t: 0\nvendor_id\t: GenuineIntel\n", "processor\t: 0\nvendor_id\t: AuthenticAMD\n"
IDLE, BUSY = "0.10 0.20 0.30 1/80 123\n", f"9.10 9.20 9.30 {1 + (os.cpu_count() or 1)}/80 123\n"


@pytest.mark.parametrize(
    ("load", "cpu", "spins"),
    [
        (IDLE, INTEL, SPINS_OF_INTEL),
        (IDLE, OTHER, SPINS),
        (BUSY, INTEL, FEW),
        (BUSY, OTHER, FEW),
        (None, None, SPINS),
        ("strange", "", SPINS),
    ],
)
def test_the_spin_count_depends_on_processor_and_load(
    load: str | None, cpu: str | None, spins: int, tmp_path: Path
) -> None:
    for name, text in (("load", load), ("cpu", cpu)):
        if text is not None:
            (tmp_path / name).write_text(text)
    environment: dict[str, str] = {}
    warning = set_spin_count(environment, tmp_path / "load", tmp_path / "cpu")
    assert environment == {"GOMP_SPINCOUNT": str(spins)}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    assert (f"OMP_NUM_THREADS={cores // 2} " in warning) == (spins == FEW and cores > 1)


@pytest.mark.parametrize("settings", [{"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "active"}])
def test_the_users_settings_are_kept(settings: dict[str, str], tmp_path: Path) -> None:
    environment = dict(settings)
    set_spin_count(environment, tmp_path / "load", tmp_path / "cpu")
    assert environment == settings


def test_there_is_no_warning_if_the_number_of_threads_is_set(tmp_path: Path) -> None:
    (tmp_path / "load").write_text(BUSY)
    assert not set_spin_count({"OMP_NUM_THREADS": "1"}, tmp_path / "load", tmp_path / "cpu")
