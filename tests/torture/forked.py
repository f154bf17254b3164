"""Commands in forked children of a process that has imported everything: a run costs a fraction of a second."""

import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import NamedTuple

os.environ["OMP_NUM_THREADS"] = "1"  # a forked child of a process with more threads hangs

from ddpm_cli.cli import _launched

from .server import import_all


class Ended(NamedTuple):
    """code: the exit code, negative for a signal; None = it had to be killed after the time limit."""

    code: int | None
    out: str
    err: str
    seconds: float


def warm_up() -> None:
    """Import what the commands import."""
    import_all()


class Child:
    """A command that runs in `folder`.

    Args:
        stopped: it waits for SIGCONT before it begins.
        around: entered in the child before the command, left after it.
    """

    def __init__(
        self,
        folder: Path,
        arguments: Sequence[str],
        stopped: bool = False,
        around: AbstractContextManager[object] | None = None,
    ):
        self.folder, self.began = folder, time.monotonic()
        self.logs = [folder.with_name(f"{folder.name}.{stream}") for stream in ("out", "err")]
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                code = self._run(arguments, stopped, around or nullcontext())
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
            finally:
                os._exit(code)

    def _run(self, arguments: Sequence[str], stopped: bool, around: AbstractContextManager[object]) -> int:
        os.setsid()
        os.chdir(self.folder)
        for number, log in zip((1, 2), self.logs, strict=True):
            os.dup2(os.open(log, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o644), number)
        for number in (
            signal.SIGINT,
            signal.SIGTERM,
            signal.SIGHUP,
        ):  # nohup ignores the last, and so would the command
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        if stopped:
            os.kill(os.getpid(), signal.SIGSTOP)
        with around:
            code = _launched(arguments[0], list(arguments[1:]))
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        return code

    def signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self, limit: float = 60.0) -> Ended:
        """Wait for the end."""
        deadline, status = time.monotonic() + limit, None
        while status is None and time.monotonic() < deadline:
            pid, found = os.waitpid(self.pid, os.WNOHANG)
            status = found if pid else None
            time.sleep(0 if pid else 0.002)
        if status is None:
            self.signal(signal.SIGKILL)
            os.waitpid(self.pid, 0)
        code = None if status is None else os.waitstatus_to_exitcode(status)
        out, err = (log.read_text(errors="replace") if log.exists() else "" for log in self.logs)
        return Ended(code, out, err, time.monotonic() - self.began)


def run(folder: Path, arguments: Sequence[str], limit: float = 60.0) -> Ended:
    """Run a command to its end."""
    return Child(folder, arguments).wait(limit)


def traced(folder: Path, arguments: Sequence[str], options: Sequence[str], log: Path, limit: float = 60.0) -> Ended:
    """Run a command under strace, which attaches before it begins. options: of strace; log: what it writes."""
    child = Child(folder, arguments, stopped=True)
    os.waitpid(child.pid, os.WUNTRACED)
    strace = ["strace", "-f", "-qq", "-o", str(log), *options, "-p", str(child.pid)]
    tracer = subprocess.Popen(strace, stderr=subprocess.DEVNULL)
    status = Path(f"/proc/{child.pid}/status")
    while "TracerPid:\t0" in status.read_text() and tracer.poll() is None:
        time.sleep(0.001)
    child.signal(signal.SIGCONT)
    ended = child.wait(limit)
    tracer.wait(10)
    return ended
