"""Work on several cores: all of it is done once, errors arrive, nothing is left running."""

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


@pytest.mark.parametrize("spread", [by_threads, by_processes])
@pytest.mark.parametrize("n", [0, 1, 2, 50])
def test_all_of_it_once(spread: object, n: int) -> None:
    assert sorted(spread(lambda i: i * i, n)) == [i * i for i in range(n)]  # type: ignore[operator]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="copies itself on Linux alone")
def test_other_processes_do_it() -> None:
    assert os.getpid() not in set(by_processes(lambda _: os.getpid(), 20))


@pytest.mark.parametrize("spread", [by_threads, by_processes])
def test_errors_arrive_and_nothing_is_left(spread: object) -> None:
    def work(i: int) -> int:
        if i == 7:
            raise OSError(28, "No space left on device")
        return i

    before = set(threading.enumerate())
    with pytest.raises(OSError, match="No space left") as caught, closing(spread(work, 1000)) as results:  # type: ignore[operator]
        list(results)
    assert caught.value.errno == 28
    assert not multiprocessing.active_children() and set(threading.enumerate()) == before


@pytest.mark.parametrize("spread", [by_threads, by_processes])
def test_it_can_be_given_up(spread: object) -> None:
    with closing(spread(lambda i: i, 10_000)) as results:  # type: ignore[operator]
        next(results)
    assert not multiprocessing.active_children()
