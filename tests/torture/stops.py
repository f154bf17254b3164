"""Signals at random instants of a training: saved, one line, the right exit code; then the end is compared bit for bit.

`python -m tests.torture.stops n=30 seed=0`
"""

import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from . import forked, record
from .cases import CASES, content
from .kills import Arena

STOP = ("SIGINT", "SIGTERM", "SIGHUP", "SIGXCPU")
SAVE = ("SIGUSR1", "SIGUSR2")


def stopped(arena: Arena, name: str, g: random.Random) -> str:
    """Send a signal at a random instant, and let the same command end the run."""
    number, place = getattr(signal, name), arena.fresh("stopped")
    child = forked.Child(place, arena.case.command)
    time.sleep(0.02 + g.uniform(0, 1.1) * arena.seconds)
    child.signal(number)
    sent = time.monotonic()
    ended = child.wait(40)
    lines = [line for line in ended.err.splitlines() if line.startswith("ddpm: ")]
    expected = {0} if name in SAVE else {0, 128 + number}
    if ended.code not in expected:
        return f"exit code {ended.code}: {ended.err[-300:]}"
    if len(lines) != (ended.code != 0):
        return f"{len(lines)} lines: {lines}"
    if time.monotonic() - sent > 30:
        return f"{time.monotonic() - sent:.0f} s"
    if ended.code and (again := forked.run(place, arena.case.command)).code:
        return f"then exit code {again.code}: {again.err[-300:]}"
    return differs(arena, place)


def differs(arena: Arena, place: Path) -> str:
    """How the end differs from the undisturbed one.

    A signal adds a checkpoint and a row of its own step, so of these only the last ones are compared.
    """
    end = max(name for name in arena.expected if name.startswith("checkpoints/")).partition(".")[0].rpartition("/")[2]
    found = content(place / arena.case.result)
    compared = [n for n in arena.expected if end in n or not n.startswith(("checkpoints/", "metrics.jsonl"))]
    different = [name for name in compared if found.get(name) != arena.expected[name]]
    return f"contents differ: {different}" if different else ""


def main(arguments: list[str]) -> int:
    options = {"n": "30", "seed": "0", "case": "diffusion"} | dict(a.split("=", 1) for a in arguments)
    forked.warm_up()
    n, seed, began, failed = int(options["n"]), int(options["seed"]), time.monotonic(), 0
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        arena = Arena(CASES[options["case"]], Path(folder))
        for name in (*STOP, *SAVE):
            for i in range(n):
                if problem := stopped(arena, name, random.Random(seed * 1000 + i)):
                    failed += 1
                    print(f"{name}, instant {i} of seed {seed}: {problem}", flush=True)
    trials = n * len((*STOP, *SAVE))
    record.add("signals", seed=seed, trials=trials, wrong=failed, seconds=round(time.monotonic() - began))
    print(f"signals, seed {seed}: {trials} trials, {failed} wrong, {time.monotonic() - began:.0f} s")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
