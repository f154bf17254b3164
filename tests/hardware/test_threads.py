"""The spin count depends on the processor and the load, and never overrides the user's settings."""

import os
from pathlib import Path

import pytest

from ddpm_cli.hardware import threads
from ddpm_cli.hardware.threads import CHOSEN, FEW, SPINS, SPINS_OF_INTEL, LoadFollower, set_spin_count

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
    line = set_spin_count(environment, tmp_path / "load", tmp_path / "cpu")
    assert environment.pop("GOMP_SPINCOUNT") == str(spins)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    fewer = spins == FEW and cores > 1
    assert environment == ({"OMP_NUM_THREADS": "1", CHOSEN: str(cores)} if fewer else {})
    assert ("1 thread, because other programs use" in line) == fewer


@pytest.mark.parametrize("settings", [{"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "active"}])
def test_the_users_settings_are_kept(settings: dict[str, str], tmp_path: Path) -> None:
    environment = dict(settings)
    set_spin_count(environment, tmp_path / "load", tmp_path / "cpu")
    assert environment == settings


def test_nothing_changes_if_the_number_of_threads_is_set(tmp_path: Path) -> None:
    (tmp_path / "load").write_text(BUSY)
    assert not set_spin_count({"OMP_NUM_THREADS": "1"}, tmp_path / "load", tmp_path / "cpu")


class Machine:
    """/proc/stat and the clocks of this process, with `others` cores in use by other processes."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch):
        self.file, self.now, self.busy, self.own = folder / "stat", 0.0, 0.0, 0.0
        self.pass_time(0.0, 0.0, 0.0)
        monkeypatch.setattr(os, "cpu_count", lambda: 4)
        monkeypatch.setattr(os, "sysconf", lambda name: 100)
        monkeypatch.setattr(threads.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(threads.time, "process_time", lambda: self.own)

    def pass_time(self, seconds: float, own: float, others: float) -> None:
        self.now += seconds
        self.own += own * seconds
        self.busy += (own + others) * seconds
        self.file.write_text(f"cpu  {round(100 * self.busy)} 0 0 {round(400 * self.now)} 0 0 0 0\ncpu0 1 1 1\n")


def test_threads_follow_the_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine, used = Machine(tmp_path, monkeypatch), []
    follower = LoadFollower(used.append, 4, {}, machine.file)
    machine.pass_time(1, own=2, others=2)
    assert follower.follow() == "" and not used  # too early
    machine.pass_time(3, own=2, others=2)
    assert "2 threads instead of 4, as other programs use 2.0 cores" in follower.follow() and used == [2]
    machine.pass_time(4, own=2, others=2)
    assert follower.follow() == "" and used == [2]
    machine.pass_time(4, own=0.5, others=3.5)
    assert "1 thread instead of 2" in follower.follow()
    machine.pass_time(4, own=1, others=0.1)
    assert "4 threads instead of 1" in follower.follow() and used == [2, 1, 4]
    machine.pass_time(4, own=4, others=0.2)
    assert follower.follow() == "" and used == [2, 1, 4]


@pytest.mark.parametrize("environment", [{"OMP_NUM_THREADS": "4"}, {"OMP_NUM_THREADS": "1"}])
def test_the_users_number_of_threads_stays(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine, used = Machine(tmp_path, monkeypatch), []
    follower = LoadFollower(used.append, int(environment["OMP_NUM_THREADS"]), environment, machine.file)
    machine.pass_time(9, own=1, others=3)
    assert follower.follow() == "" and not used


def test_a_number_that_was_chosen_at_the_start_may_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine, used = Machine(tmp_path, monkeypatch), []
    follower = LoadFollower(used.append, 1, {"OMP_NUM_THREADS": "1", CHOSEN: "4"}, machine.file)
    machine.pass_time(9, own=1, others=0)
    assert follower.follow() and used == [4]


@pytest.mark.parametrize("text", ["", "cpu 1 2", "strange"])
def test_without_a_known_load_nothing_happens(text: str, tmp_path: Path) -> None:
    (tmp_path / "stat").write_text(text)
    assert LoadFollower(lambda n: None, 4, {}, tmp_path / "stat").follow() == ""
    assert LoadFollower(lambda n: None, 4, {}, tmp_path / "none").follow() == ""
