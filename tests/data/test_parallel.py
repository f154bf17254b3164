"""Tasks on several cores: each runs once, errors are raised, nothing is left running."""

import multiprocessing
import os
import sys
import threading
from contextlib import closing

import pytest

from ddpm_cli.data import parallel
from ddpm_cli.data.parallel import by_processes, by_threads


@pytest.fixture(autouse=True)
def three_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "cores", lambda: 3)


@pytest.mark.parametrize("run", [by_threads, by_processes])
@pytest.mark.parametrize("n", [0, 1, 2, 50])
def test_each_task_runs_once(run: object, n: int) -> None:
    assert sorted(run(lambda i: i * i, n)) == [i * i for i in range(n)]  # type: ignore[operator]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks only on Linux")
def test_the_tasks_run_in_other_processes() -> None:
    assert os.getpid() not in set(by_processes(lambda _: os.getpid(), 20))


@pytest.mark.parametrize("run", [by_threads, by_processes])
def test_errors_are_raised_and_nothing_is_left_running(run: object) -> None:
    def task(i: int) -> int:
        if i == 7:
            raise OSError(28, "No space left on device")
        return i

    before = set(threading.enumerate())
    with pytest.raises(OSError, match="No space left") as caught, closing(run(task, 1000)) as results:  # type: ignore[operator]
        list(results)
    assert caught.value.errno == 28
    assert not multiprocessing.active_children() and set(threading.enumerate()) == before


@pytest.mark.parametrize("run", [by_threads, by_processes])
def test_closing_early_stops_the_processes(run: object) -> None:
    with closing(run(lambda i: i, 10_000)) as results:  # type: ignore[operator]
        next(results)
    assert not multiprocessing.active_children()
