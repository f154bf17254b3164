"""Runs a function on every core: in threads, or in processes where Python's interpreter lock would limit threads."""

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
    """The number of cores that this process may use (in a container or Slurm job, fewer than exist), at most 32."""
    affinity = getattr(os, "sched_getaffinity", None)
    return min(len(affinity(0)) if affinity else os.cpu_count() or 1, 32)


def by_threads(task: Callable[[int], T], n: int) -> Generator[T, None, None]:
    """task(0), ..., task(n - 1), in order. An exception in a task is raised here, and queued tasks are cancelled."""
    pool = ThreadPoolExecutor(cores())
    try:
        yield from pool.map(task, range(n))
    finally:  # an error or Ctrl-C must not wait for the queued tasks
        pool.shutdown(cancel_futures=True)


def by_processes(task: Callable[[int], T], n: int) -> Generator[T, None, None]:
    """task(0), ..., task(n - 1), in any order, in forks of this process; in threads where forking is not possible.

    Pillow decodes a small picture so quickly that threads would mostly wait for Python's interpreter lock; a forked
    process shares nothing with the others and starts in 10 ms. `task` must use neither torch nor other threads. Its
    result is sent through a pipe, so it should be small.

    Raises:
        DataError: one of the processes was killed.
    """
    workers = min(cores(), n)
    if not sys.platform.startswith("linux") or workers < 2 or multiprocessing.current_process().daemon:
        yield from by_threads(task, n)
        return
    context = multiprocessing.get_context("fork")
    next_task = context.Value("l", 0)
    running: dict[Connection, Any] = {}
    try:
        for _ in range(workers):
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_serve, args=(task, n, next_task, theirs, os.getpid()), daemon=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # about other threads, which the fork does not need
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
            f"dataset: a process that decodes pictures was killed (exit code {code}), perhaps for lack of memory; "
            "free some memory, or set dataset.cache=false to decode without extra processes"
        ) from None
    if error is not None:
        raise error
    if done:
        running.pop(pipe).join()
        pipe.close()
    else:
        yield result


def _serve(task: Callable[[int], Any], n: int, next_task: Any, pipe: Connection, parent: int) -> None:
    """The main function of a fork. It exits without Python's cleanup, which would flush the parent's output again."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all forks; the parent decides when to stop
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        while os.getppid() == parent:  # otherwise the parent was killed, and this fork still holds its lock
            with next_task.get_lock():
                number, next_task.value = next_task.value, next_task.value + 1
            if number >= n:
                pipe.send((True, None, None))
                break
            pipe.send((False, task(number), None))
    except BaseException as error:
        with suppress(Exception):
            pipe.send((True, None, error))
    finally:
        os._exit(0)
