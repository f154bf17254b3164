"""The signals that end a command, and those that ask it to save and go on. Windows and threads have fewer of them."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

STOP = tuple(int(getattr(signal, n)) for n in ("SIGINT", "SIGTERM", "SIGHUP", "SIGXCPU") if hasattr(signal, n))
"""Ctrl-C, the end of a job, a closed terminal or connection, the end of the processor time that a cluster allows."""
SAVE = tuple(int(getattr(signal, n)) for n in ("SIGUSR1", "SIGUSR2") if hasattr(signal, n))
"""Slurm sends one of them some time before it ends a job."""


JOB = "DDPM_CLI_SWEEP"
"""Environment variable of a run of a sweep: the override that resumes the sweep, as it is typed."""
AT_ONCE = 0.5
"""Seconds. A signal that arrives again within them is the same one: `timeout` and clusters send it to the process and
to its group. One that arrives later means: leave now."""
AGAIN = 0.01
"""Seconds after which a signal comes again whose exception Python has dropped."""


class Interrupted(KeyboardInterrupt):
    """A signal that ends the command."""

    def __init__(self, number: int):
        super().__init__(name_of(number))
        self.number = number


def name_of(number: int) -> str:
    """Ctrl-C, SIGTERM, ..."""
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name


@contextmanager
def handled(
    numbers: Collection[int], handler: Callable[[int, FrameType | None], Any], last: bool = False
) -> Iterator[None]:
    """Signals in `numbers` call `handler` inside the context. Those that the user ignores (nohup) stay ignored.

    Args:
        last: after the context they are ignored, instead of handled as before it.
    """
    old: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in numbers:
            if signal.getsignal(number) is not signal.SIG_IGN:
                old[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, before in old.items():
            signal.signal(number, signal.SIG_IGN if last else before)


@contextmanager
def shielded() -> Iterator[None]:
    """Signals do not end the programs that start inside the context; a terminal and a cluster send them there, too.

    These inherit which signals are blocked. This process has a thread meanwhile that does not block them.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (*STOP, *SAVE))
    done = threading.Event()

    def receive() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        done.wait()

    try:
        threading.Thread(target=receive, daemon=True).start()
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        done.set()


def end_with_parent() -> None:
    """SIGTERM comes when the process that started this one ends without having ended it: on Linux only."""
    if sys.platform == "linux":
        import ctypes  # only runs of a sweep need it

        ctypes.CDLL(None).prctl(1, int(signal.SIGTERM))  # PR_SET_PDEATHSIG of <sys/prctl.h>


_arrived: list[int] = []
_inside: list[None] = []
"""An entry for each `interruptible` that is entered."""


def arrived() -> Interrupted | None:
    """The signal that has ended the command, even if a package has dropped its exception or made another one of it."""
    return Interrupted(_arrived[0]) if _arrived else None


def check() -> None:
    """Raises Interrupted if a signal has ended the command already."""
    if (interrupted := arrived()) is not None:
        raise interrupted


@contextmanager
def _dropped(act: Callable[[int], None]) -> Iterator[None]:
    """`act(number)` is called a moment after Python drops an `Interrupted`, in place of a traceback on the terminal."""
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        error = unraisable.exc_value
        if isinstance(error, Interrupted):  # later, as the hook cannot raise either
            timer = threading.Timer(AGAIN, act, (error.number,))
            timer.daemon = True
            timer.start()
        else:
            before(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


@contextmanager
def interruptible(last: bool = False) -> Iterator[None]:
    """A signal of `STOP` raises `Interrupted` inside the context; one of `SAVE` does nothing.

    For commands that keep what they have done as they go. A second signal ends the process where it is.

    Python drops exceptions of finalizers and of what runs as a process forks. A signal that comes there comes again.

    Args:
        last: after the context all these signals are ignored, as only the interpreter has to end.
    """
    if not _inside:
        _arrived.clear()
    check()  # one that a package has dropped
    first, dropped = 0.0, False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal first, dropped
        if not _arrived or dropped:
            first, dropped = time.monotonic(), False
            _arrived.append(number)
            raise Interrupted(number)
        if time.monotonic() - first > AT_ONCE:
            os.write(2, f"ddpm: {name_of(number)}: stopped at once\n".encode())  # Python's streams may be in use
            os._exit(128 + number)

    def again(number: int) -> None:
        nonlocal dropped
        dropped = True
        if hasattr(signal, "pthread_kill"):  # wakes the main thread, too
            signal.pthread_kill(threading.main_thread().ident or 0, number)
        else:
            signal.raise_signal(number)

    with handled(STOP, stop, last), handled(SAVE, lambda number, frame: None, last), _dropped(again):
        _inside.append(None)
        try:
            yield
        finally:
            _inside.pop()
