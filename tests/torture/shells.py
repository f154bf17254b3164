"""Stops as shells and clusters make them, at random instants of a real process, from its first moment on.

`python -m tests.torture.shells n=5 seed=0`
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from . import forked, record
from .cases import CASES
from .kills import Arena
from .stops import differs

LIMIT = 60


class Result(NamedTuple):
    code: int
    err: str


class Place:
    """A folder with the line of a shell that runs the program in it."""

    def __init__(self, folder: Path, command: list[str]):
        self.folder = folder
        self.program = " ".join([f"'{sys.executable}' -m ddpm_cli", *(f"'{a}'" for a in command)])

    def start(self, line: str) -> subprocess.Popen[str]:
        """The line in bash, in a process group of its own; {program} stands for the program."""
        line = line.replace("{program}", self.program)
        return subprocess.Popen(
            ["bash", "-c", line], cwd=self.folder, text=True, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, restore_signals=True,
        )  # fmt: skip

    def ended(self, process: subprocess.Popen[str]) -> Result:
        try:
            _, err = process.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            _, err = process.communicate()
            err += "(hangs)"
        return Result(process.returncode, err)

    def run(self, line: str, *sent: tuple[float, int]) -> Result:
        """Run the line, and send signals to its process group after some seconds each."""
        process = self.start(line)
        for seconds, number in sent:
            time.sleep(seconds)
            if process.poll() is None:
                os.killpg(process.pid, number)
        return self.ended(process)


def _lines(result: Result, codes: set[int]) -> str:
    """What is wrong with an answer: another exit code, more than one line, or a traceback."""
    lines = [line for line in result.err.splitlines() if line.startswith("ddpm: ")]
    if result.code not in codes or "Traceback" in result.err or len(lines) > 1:
        return f"exit code {result.code}: {result.err.strip()[-400:]}"
    return ""


def whole_group(place: Place, at: float) -> str:
    """Ctrl-C in a terminal reaches every process of the group."""
    return _lines(place.run("exec {program}", (at, signal.SIGINT)), {0, 130})


def second_ctrl_c(place: Place, at: float) -> str:
    """A second Ctrl-C leaves at once, with a line or without."""
    began = time.monotonic()
    result = place.run("exec {program}", (at, signal.SIGINT), (0.05, signal.SIGINT))
    late = time.monotonic() - began - at > 10
    return "takes more than 10 s to leave" if late else _lines(result, {0, 130})


def limited(place: Place, at: float) -> str:
    """`timeout` sends one signal, to the program alone."""
    return _lines(place.run(f"exec timeout -s TERM {at + 0.01:.2f} {{program}}"), {0, 124, 143})


def hung_up(place: Place, at: float) -> str:
    """The terminal closes, and nohup was typed: the run goes on to its end."""
    return _lines(place.run("exec nohup {program}", (at, signal.SIGHUP)), {0} if at > 0.05 else {0, -signal.SIGHUP})


def closed_pipe(place: Place, at: float) -> str:
    """The reader of the output goes away; bash answers with the exit code of the program."""
    return _lines(place.run(f"set -o pipefail; {{program}} | (sleep {at:.2f})"), {0})


def slurm(place: Place, at: float) -> str:
    """Slurm sends USR1 some time before the end, then TERM, then KILL: the run is saved at USR1."""
    result = place.run("exec {program}", (at, signal.SIGUSR1), (1.0, signal.SIGTERM), (30.0, signal.SIGKILL))
    early = {-signal.SIGUSR1, 128 + signal.SIGUSR1} if at < 0.3 else set()  # Python itself is not up yet
    return _lines(result, {0, 143} | early)


WAYS: list[Callable[[Place, float], str]] = [whole_group, second_ctrl_c, limited, hung_up, closed_pipe, slurm]


def main(arguments: list[str]) -> int:
    options = {"n": "5", "seed": "0", "case": "diffusion"} | dict(a.split("=", 1) for a in arguments)
    n, seed, began, failed = int(options["n"]), int(options["seed"]), time.monotonic(), 0
    forked.warm_up()
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        arena = Arena(CASES[options["case"]], Path(folder))
        whole = time.monotonic()
        Place(arena.fresh("timed"), arena.case.command).run("exec {program}")
        whole = time.monotonic() - whole
        for way in WAYS:
            for i in range(n):
                at = random.Random(f"{seed}/{way.__name__}/{i}").uniform(0, whole)
                place = arena.fresh("stopped")
                problem = way(Place(place, arena.case.command), at)
                if not problem:
                    again = forked.run(place, arena.case.command)
                    problem = again.err[-300:] if again.code else differs(arena, place)
                if problem:
                    failed += 1
                    print(f"{way.__name__}, after {at:.2f} s of {whole:.2f} s: {problem}", flush=True)
    trials, seconds = n * len(WAYS), round(time.monotonic() - began)
    record.add("shells", seed=seed, trials=trials, wrong=failed, seconds=seconds)
    print(f"shells, seed {seed}: {trials} trials, {failed} wrong, {seconds} s")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
