"""One run of a sweep: its name, its command line, the program that trains it, the metric that it reaches."""

import hashlib
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from .. import signals
from ..errors import ConfigError
from ..files import shown
from ..text import quoted, unquoted

LONGEST = 100
"""Characters of a folder's name."""
SAFE = re.compile(r"[^\w.=+@-]+")
"""What may not be in a folder's name: it would have to be quoted, or means something in a path."""
PID = "pid-"
SAVING = 120
"""Seconds that a run may take to save."""
REASON = "DDPM_CLI_REASON"
"""Environment variable of a run of a sweep: the file for the line that says why it failed."""


def key_of(text: str) -> str:
    return text.lstrip("+~").partition("=")[0].partition("@")[0]


def name_of(overrides: Sequence[str]) -> str:
    """A folder's name for overrides: ["seed=1", "schedule=cosine"] -> "seed=1_schedule=cosine".

    With a digest at its end if characters had to be left out.
    """
    texts = [f"{key.lstrip('+')}={unquoted(value)}" for key, _, value in (text.partition("=") for text in overrides)]
    whole = "_".join(texts)
    name = SAFE.sub("-", whole).strip("-. ")
    if name == whole and len(name.encode()) <= LONGEST:
        return name
    while len(name.encode()) > LONGEST:
        name = name[:-1]
    return f"{name}-{hashlib.sha256('_'.join(overrides).encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def resolved(text: str, config: Mapping[str, Any]) -> str:
    """An override with the value that it has in the sweep: an interpolation could have another one in the run alone."""
    key, node = text.partition("=")[0], config
    if key.startswith("~") or "@" in key:
        return text
    for name in key_of(text).split("."):
        if not isinstance(node, Mapping) or name not in node:
            return text
        node = node[name]
    if isinstance(node, str):
        return f"{key}={quoted(node)}"
    plain = node is None or isinstance(node, bool | int) or (isinstance(node, float) and math.isfinite(node))
    return f"{key}={json.dumps(node)}" if plain else text


def reached(folder: Path, metric: Any) -> float | None:
    """The last value of a metric that a run has logged. Raises ConfigError if it has logged none."""
    if metric is None:
        return None
    from ..runs.logs import last_value, logged

    value = last_value(folder, str(metric), math.nan)
    if math.isnan(value):
        known = ", ".join(logged(folder)) or "nothing"
        raise ConfigError(f"sweep_metric: {shown(folder)} has logged no {metric}; it has logged {known}")
    return value


def train(arguments: Sequence[str], place: str, results: Path | None) -> tuple[int, str]:
    """Run the program. Returns its exit code, and the line that says why it failed.

    Args:
        results: if several run at the same time, a folder that says which processes do, see `forwarding`. They show no
            lines, which would be mixed; their logs have them.
    """
    output = None if results is None else subprocess.DEVNULL
    root = str(Path(__file__).parents[2])
    program = f"import sys; sys.path.append({root!r}); from ddpm_cli.cli import main; main()"
    with tempfile.TemporaryDirectory(prefix="ddpm-sweep-") as temporary:
        file = Path(temporary) / "reason"
        process = subprocess.Popen(  # noqa: S603 (this program itself)
            [sys.executable, "-P", "-c", program, *arguments],
            env=os.environ | {signals.JOB: place, REASON: str(file)},
            stdout=output,
            stderr=output,
        )
        mark = None if results is None else results / f"{PID}{socket.gethostname()}-{process.pid}"
        if mark is not None:
            mark.touch()
        with signals.handled(signals.SAVE, lambda number, _: process.send_signal(number)):
            try:
                code = process.wait()
            except KeyboardInterrupt as error:
                number = getattr(error, "number", 2)
                if os.name == "posix":  # a terminal has sent it there too, and twice within a moment is once
                    process.send_signal(number)
                process.wait()
                raise SystemExit(128 + number) from error
            finally:
                if mark is not None:
                    mark.unlink(missing_ok=True)
        reason = file.read_text(encoding="utf-8") if file.is_file() else ""
    if code < 0:
        return 128 - code, reason or f"ended by {signals.name_of(-code)}"
    return code, reason or (f"ended with exit code {code}" if code else "")


@contextmanager
def forwarding(results: Path) -> Iterator[None]:
    """A signal that ends the sweep goes to its runs on this machine first, and waits until they have saved.

    Launchers kill the processes in which the runs were started, and all that these have started.
    """
    before = {number: signal.getsignal(number) for number in signals.STOP}
    own = f"{PID}{socket.gethostname()}-"

    def forward(number: int, frame: FrameType | None) -> None:
        pids = [int(path.name.removeprefix(own)) for path in results.glob(f"{own}*")]
        for pid in pids:
            with suppress(OSError):
                os.kill(pid, number)
        deadline = time.monotonic() + SAVING
        while any(map(_runs, pids)) and time.monotonic() < deadline:
            time.sleep(0.05)
        handler = before[number]
        if callable(handler):
            handler(number, frame)

    with signals.handled(signals.STOP if os.name == "posix" else (), forward):
        yield


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def tell(message: str) -> None:
    """Keep the line that says why a run of a sweep failed for the process that started it."""
    if file := os.environ.get(REASON):
        with suppress(OSError):
            Path(file).write_text(message, encoding="utf-8", errors="replace")
