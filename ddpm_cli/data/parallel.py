"""The same work on every core: by threads, or by processes where Python's lock would be in the way."""

import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from ..errors import DataError

T = TypeVar("T")


def cores() -> int:
    """What a container or Slurm leaves us, not what the box has; 32 at most."""
    affinity = getattr(os, "sched_getaffinity", None)
    return min(len(affinity(0)) if affinity else os.cpu_count() or 1, 32)


def by_threads(work: Callable[[int], T], n: int) -> Generator[T, None, None]:
    """work(0), ..., work(n - 1), in order. What one raises is raised here, and the rest is not begun."""
    pool = ThreadPoolExecutor(cores())
    try:
        yield from pool.map(work, range(n))
    finally:  # an error or Ctrl-C must not wait for what is still queued
        pool.shutdown(cancel_futures=True)


def by_processes(work: Callable[[int], T], n: int) -> Generator[T, None, None]:
    """work(0), ..., work(n - 1), in any order, by copies of this process; by threads where a process cannot be copied.

    A small picture takes Pillow so little that threads would wait for each other's turn with Python's lock; a copied
    process shares nothing with the others, and starts in a hundredth of a second. `work` must use neither torch nor
    other threads, and what it returns is sent here: it should be little.

    Raises:
        DataError: one of the processes was killed.
    """
    workers = min(cores(), n)
    if not sys.platform.startswith("linux") or workers < 2 or multiprocessing.current_process().daemon:
        yield from by_threads(work, n)
        return
    context = multiprocessing.get_context("fork")
    taken = context.Value("l", 0)
    running: dict[Connection, Any] = {}
    try:
        for _ in range(workers):
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_serve, args=(work, n, taken, theirs, os.getpid()), daemon=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of other threads, which the copy does not need
                process.start()
            theirs.close()
            running[ours] = process
        while running:
            for pipe in wait(list(running)):
                assert isinstance(pipe, Connection)
                yield from _receive(pipe, running)
    finally:
        for pipe, process in running.items():
            process.kill()
            process.join()
            pipe.close()


def _receive(pipe: Connection, running: dict[Connection, Any]) -> Generator[Any, None, None]:
    try:
        done, result, error = pipe.recv()
    except EOFError:
        running[pipe].join()
        code = running[pipe].exitcode
        raise DataError(
            f"dataset: a process that decoded pictures was killed ({code}); is there enough memory? "
            "dataset.cache=false decodes without such processes"
        ) from None
    if error is not None:
        raise error
    if done:
        running.pop(pipe).join()
        pipe.close()
    else:
        yield result


def _serve(work: Callable[[int], Any], n: int, taken: Any, pipe: Connection, parent: int) -> None:
    """The life of a copy. It ends without Python's farewell, which would flush what the parent had yet to print."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of them; the parent says when to stop
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        while os.getppid() == parent:  # else it was killed, and we hold its lock
            with taken.get_lock():
                number, taken.value = taken.value, taken.value + 1
            if number >= n:
                pipe.send((True, None, None))
                break
            pipe.send((False, work(number), None))
    except BaseException as error:
        with suppress(Exception):
            pipe.send((True, None, error))
    finally:
        os._exit(0)
