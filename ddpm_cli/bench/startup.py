"""ddpm bench what=startup: each command in a process of its own, in an empty folder, as from a shell."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import ddpm_cli

from .. import console
from ..errors import DdpmError
from ..files import shown
from ..runs.assemble import check_positive
from .figures import Figure
from .machine import machine
from .report import report

HELP, MISTAKE, STEP = 0.5, 1.5, 8.0
"""Seconds that are aimed at: an answer without a config, one line about a mistake, a training step on digits."""


class Start(NamedTuple):
    """A command line, the exit code it must have, and for tab completion the line that is being typed."""

    name: str
    what: str
    goal: float
    arguments: list[str]
    code: int = 0
    typed: str | None = None


QUERY = ["-sc", "query=bash"]
ONE_STEP = ["train", "dataset=digits", "trainer.steps=1", "trainer.eval_every=0", "trainer.sample_every=0"]
STARTS = [
    Start("help", "ddpm --help", HELP, ["--help"]),
    Start("version", "ddpm --version", HELP, ["--version"]),
    Start("complete_command", "tab after ddpm tr", HELP, QUERY, typed="ddpm tr"),
    Start("complete_group", "tab after ddpm train dataset=ci", HELP, QUERY, typed="ddpm train dataset=ci"),
    Start("complete_key", "tab after ddpm train optimizer.l", HELP, QUERY, typed="ddpm train optimizer.l"),
    Start("unknown_group", "ddpm train datset=digits", MISTAKE, ["train", "datset=digits"], 2),
    Start("unknown_key", "ddpm train model.chanels=3", MISTAKE, ["train", "model.chanels=3"], 2),
    Start("wrong_type", "ddpm train trainer.steps=many", MISTAKE, ["train", "trainer.steps=many"], 2),
    Start("first_step", "one step on digits, and its save", STEP, ONE_STEP),
]


def run(
    config: dict[str, Any],
    folder: Path,
    *,
    windows: int,
    seed: int,
    out: str,
    trust: list[str],
    debug: bool,
) -> None:
    """Start each command `windows` times, by turns; one more start before, which fills the disk's cache.

    Raises:
        DdpmError: a command that ends otherwise than it should.
    """
    check_positive(windows=windows)
    console.show_config(config, f"ddpm bench: {shown(folder)}")
    times: dict[str, list[Took]] = {s.name: [] for s in STARTS}
    with console.Counter() as progress:
        took(STARTS[-1])
        for i in range(windows):
            for start in STARTS:
                times[start.name].append(took(start))
            progress("starting", i + 1, windows)
    figures = [Figure(s.name, s.what, "s", [t.seconds for t in times[s.name]], s.goal) for s in STARTS]
    # what a process computed for: on a busy machine it also waited for its turn
    processor = {name: [round(t.processor, 3) for t in some] for name, some in times.items()}
    protocol = {"windows": windows, "processor_seconds": processor}
    report(folder, "startup", "from the shell to the end of the process", figures, protocol, machine(), config)


class Took(NamedTuple):
    """Seconds from starting a process to its end, and those that its threads computed together (0 where unknown)."""

    seconds: float
    processor: float


def took(start: Start) -> Took:
    """Raises DdpmError when the process does not end as it should."""
    root = str(Path(ddpm_cli.__file__).parents[1])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": path}
    if start.typed is not None:
        environment |= {"COMP_LINE": start.typed, "COMP_POINT": str(len(start.typed))}
    command = [sys.executable, "-m", "ddpm_cli", *start.arguments]
    with tempfile.TemporaryDirectory() as place:
        began, before = time.perf_counter(), os.times()
        done = subprocess.run(command, cwd=place, env=environment, text=True, capture_output=True, check=False)
        seconds, after = time.perf_counter() - began, os.times()
    if done.returncode != start.code:
        said = (done.stderr.strip().splitlines() or ["nothing was said"])[-1]
        raise DdpmError(f"{start.what}: ended with {done.returncode}, not {start.code} ({said}); run it by itself")
    computed = after.children_user + after.children_system - before.children_user - before.children_system
    return Took(seconds, computed)
