"""Signals at random instants of a training: saved, one line, the right exit code; then the end is compared bit for bit.

`python -m tests.torture.stops n=30 seed=0`: each signal n times, at instants of the whole run.
`python -m tests.torture.stops phase=all n=30 seed=0`: n instants inside each phase of a run, the signals in turn; or
inside some of them, `phase=step,save`; `n=1 first=7` repeats one instant. Instants 6 to 11, 18 to 23 and so on are of
signals to the whole group, as a terminal sends them.
"""

import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from . import forked, phases, record
from .cases import CASES, content
from .kills import Arena
from .phases import PHASES, Phase

STOP = ("SIGINT", "SIGTERM", "SIGHUP", "SIGXCPU")
SAVE = ("SIGUSR1", "SIGUSR2")


def stopped(arena: Arena, name: str, g: random.Random) -> str:
    """Send a signal at a random instant, and let the same command end the run."""
    place = arena.fresh("stopped")
    child = forked.Child(place, arena.case.command)
    time.sleep(0.02 + g.uniform(0, 1.1) * arena.seconds)
    child.signal(getattr(signal, name))
    return judged(arena, child, name, time.monotonic())


def judged(arena: Arena, child: forked.Child, name: str, sent: float | Path, must: bool = False) -> str:
    """What is wrong with how a command ends after a signal, and with how the same command ends the run.

    Args:
        sent: the instant; or where it is noted, once the signal is sent.
        must: a signal that stops a run must stop it; otherwise the run may be as good as finished.
    """
    ended, number = child.wait(150), getattr(signal, name)
    lines = [line for line in ended.err.splitlines() if line.startswith("ddpm: ")]
    if isinstance(sent, Path):
        if not (noted := phases.noted(sent)):
            return f"the signal was not sent: {ended.err[-300:]}"
        (sent,) = noted
    expected = {0} if name in SAVE else {128 + number} if must else {0, 128 + number}
    if ended.code not in expected:
        return f"exit code {ended.code}: {ended.err[-300:]}"
    if len(lines) != (ended.code != 0):
        return f"{len(lines)} lines: {lines}"
    if "Traceback" in ended.err or "Exception ignored" in ended.err:
        return f"a traceback: {ended.err[-1000:]}"
    if ended.code and (seconds := child.began + ended.seconds - sent) > 30:  # otherwise the run went on to its end
        return f"{seconds:.0f} s"
    if ended.code and (again := forked.run(child.folder, arena.case.command)).code:
        return f"then exit code {again.code}: {again.err[-300:]}"
    return differs(arena, child.folder)


def differs(arena: Arena, place: Path) -> str:
    """How the end differs from the undisturbed one.

    A signal adds a checkpoint and a row of its own step, so of these only the last ones are compared.
    """
    end = max(Path(name).stem for name in arena.expected if "checkpoints/" in name)
    found = content(place / arena.case.result)
    compared = [n for n in arena.expected if end in n or not ("checkpoints/" in n or n.endswith("metrics.jsonl"))]
    different = [name for name in compared if found.get(name) != arena.expected[name]]
    more = [name for name in found if name not in arena.expected and "checkpoints/step_" not in name]
    return f"contents differ: {different}, more: {more}" if different or more else ""


def at_all_instants(n: int, seed: int, case: str, folder: Path) -> int:
    """Each signal n times. Returns the number of trials that went wrong."""
    arena, failed, began = Arena(CASES[case], folder), 0, time.monotonic()
    for name in (*STOP, *SAVE):
        for i in range(n):
            if problem := stopped(arena, name, random.Random(seed * 1000 + i)):
                failed += 1
                print(f"{name}, instant {i} of seed {seed}: {problem}", flush=True)
    _keep("signals", seed, n * len((*STOP, *SAVE)), failed, began)
    return failed


def inside(phase: Phase, name: str, numbers: range, seed: int, folder: Path) -> int:
    """Signals inside a phase, at the instants with these numbers. Returns the number of trials that went wrong."""
    began, failed, signals = time.monotonic(), 0, (*STOP, *SAVE)
    log = folder.with_name(f"{name}.noted")
    phases.fresh_cache(folder / "whole")
    arena = Arena(phase.case, folder, phases.Watched(phase, log))
    stretches = phases.noted(log)
    for i in numbers:
        g, sent, place = random.Random(seed * 1000 + i), signals[i % len(signals)], arena.fresh("stopped")
        phases.fresh_cache(place)
        log.unlink(missing_ok=True)
        aim = phases.aim_at(stretches, getattr(signal, sent), i // len(signals) % 2 == 1, g)
        child = forked.Child(place, phase.case.command, around=phases.Watched(phase, log, aim))
        if problem := judged(arena, child, sent, log, aim.n <= len(stretches) - phase.late):
            failed += 1
            print(f"{sent}, {aim} of {name}, instant {i} of seed {seed}: {problem}", flush=True)
    _keep(f"signals, {name}", seed, len(numbers), failed, began)
    return failed


def _keep(what: str, seed: int, trials: int, failed: int, began: float) -> None:
    """Print what came of it, and add it to the record."""
    seconds = round(time.monotonic() - began)
    record.add(what, seed=seed, trials=trials, wrong=failed, seconds=seconds)
    print(f"{what}, seed {seed}: {trials} trials, {failed} wrong, {seconds} s", flush=True)


def main(arguments: list[str]) -> int:
    options = {"n": "30", "seed": "0", "case": "diffusion", "phase": "", "first": "0"}
    options |= dict(a.split("=", 1) for a in arguments)
    n, seed, first, failed = int(options["n"]), int(options["seed"]), int(options["first"]), 0
    names = phases.chosen(options["phase"]) if options["phase"] else []
    forked.warm_up()
    if "compile" in names:
        phases.import_compiler()
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        for name in names:
            failed += inside(PHASES[name], name, range(first, first + n), seed, Path(folder) / name)
        if not names:
            failed += at_all_instants(n, seed, options["case"], Path(folder))
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
