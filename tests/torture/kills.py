"""SIGKILL at every system call that changes a file, and at random instants; then the end is compared bit for bit.

`python -m tests.torture.kills what=calls|random n=N seed=S`; see `make torture`. What came of it is added to the
record (record.py); `what=random until=10000` goes on with new seeds until the record has that many.
"""

import random
import re
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from . import forked, record
from .cases import CASES, Case, content, problem, readable

CALLS = [
    "write", "pwrite64", "writev", "fsync", "fdatasync", "rename", "renameat", "renameat2", "unlink", "unlinkat",
    "mkdir", "mkdirat", "rmdir", "symlink", "symlinkat", "link", "linkat", "ftruncate", "truncate", "chmod", "fchmod",
    "fchmodat",
]  # fmt: skip
"""System calls that change files. Of openat only the write that follows counts."""


class Point(NamedTuple):
    """The n-th call of a kind by any thread."""

    case: str
    call: str
    n: int


class Outcome(NamedTuple):
    """problem: "" = a valid state, and the end is bit for bit the same."""

    point: str
    killed: bool
    problem: str


class Arena:
    """A case, run once undisturbed; then in fresh folders. around: of the undisturbed run, see `forked.Child`."""

    def __init__(self, case: Case, folder: Path, around: AbstractContextManager[object] | None = None):
        self.case, self.folder = case, folder
        self.start = folder / "start"
        self.start.mkdir(parents=True)
        case.prepare(self.start)
        whole = self.fresh("whole")
        ended = forked.Child(whole, case.command, around=around).wait(150)
        assert ended.code == 0, ended.err
        self.seconds = ended.seconds
        self.expected = content(whole / case.result)

    def fresh(self, name: str) -> Path:
        """A copy of the folder in which the command starts."""
        place = self.folder / name
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self.start, place)
        return place

    def points(self) -> list[Point]:
        """Every call that changes a file, found by tracing."""
        log, place = self.folder / "trace", self.fresh("traced")
        ended = forked.traced(place, self.case.command, ["-e", f"trace={','.join(CALLS)}"], log)
        assert ended.code == 0, ended.err
        lines = (re.match(r"(\d+) +(\w+)\(", line) for line in log.read_text(errors="replace").splitlines())
        by_thread = Counter((m[1], m[2]) for m in lines if m)
        most: dict[str, int] = {}
        for (_, call), n in by_thread.items():
            most[call] = max(most.get(call, 0), n)
        return [Point(self.case.name, call, i + 1) for call, n in sorted(most.items()) for i in range(n)]

    def kill_at(self, point: Point) -> Outcome:
        """Kill before this call takes effect, look, start again, and compare the end."""
        place, log = self.fresh("killed"), self.folder / "trace"
        inject = f"inject={point.call}:signal=SIGKILL:when={point.n}"
        ended = forked.traced(place, self.case.command, ["-e", f"trace={point.call}", "-e", inject], log)
        return Outcome(str(point), ended.code == -signal.SIGKILL, readable(place) or self.recovered(place))

    def recovered(self, place: Path) -> str:
        """Run the command again to its end. Returns what is wrong."""
        ended = forked.run(place, self.case.command)
        if ended.code != 0:
            return f"exit code {ended.code}: {ended.err.strip()[-300:]}"
        return self.differs(place)

    def differs(self, place: Path) -> str:
        """How the end in `place` differs from the undisturbed one; "" if it does not."""
        return problem(place / self.case.result, self.expected)

    def kill_at_random(self, g: random.Random) -> Iterator[Outcome]:
        """One run, killed one to five times at random instants, also while it resumes; then it ends."""
        place, kills = self.fresh("killed"), g.randint(1, 5)
        for i in range(kills):
            child = forked.Child(place, self.case.command)
            time.sleep(g.uniform(0, 1) * self.seconds)
            child.signal(signal.SIGKILL)
            ended = child.wait()
            wrong = readable(place)
            if i == kills - 1:
                wrong = wrong or self.recovered(place)
            yield Outcome(f"{self.case.name} {i + 1} of {kills}", ended.code == -signal.SIGKILL, wrong)


def every_call(folder: Path, names: list[str], most: int | None, seed: int) -> Iterator[Outcome]:
    """Kill each case at every call that changes a file, or at `most` of them for each case, chosen by the seed."""
    for name in names:
        arena = Arena(CASES[name], folder / name)
        points = arena.points()
        if most is not None and most < len(points):
            points = sorted(random.Random(seed).sample(points, most))
        for point in points:
            yield arena.kill_at(point)


def at_random(folder: Path, names: list[str], n: int, seed: int) -> Iterator[Outcome]:
    """n kills, over all cases in turn."""
    arenas, done, turn = [Arena(CASES[name], folder / name) for name in names], 0, 0
    while done < n:
        g = random.Random(seed * 1_000_003 + turn)
        for outcome in arenas[turn % len(arenas)].kill_at_random(g):
            done += 1
            yield outcome._replace(point=f"seed {seed} turn {turn}: {outcome.point}")
        turn += 1


class Count:
    """The outcomes so far."""

    def __init__(self, what: str, seed: int):
        self.what, self.seed, self.began = what, seed, time.monotonic()
        self.trials = self.killed = self.wrong = 0

    def add(self, outcome: Outcome) -> None:
        self.trials, self.killed = self.trials + 1, self.killed + outcome.killed
        if outcome.problem:
            self.wrong += 1
            print(f"{outcome.point}: {outcome.problem}", flush=True)
        if self.trials % 50 == 0:
            print(self, flush=True)

    def __str__(self) -> str:
        counted = f"{self.trials} trials, {self.killed} killed, {self.wrong} wrong"
        return f"{self.what}, seed {self.seed}: {counted}, {time.monotonic() - self.began:.0f} s"

    def keep(self) -> None:
        """Add it to the record."""
        seconds = round(time.monotonic() - self.began)
        facts = {"trials": self.trials, "killed": self.killed, "wrong": self.wrong, "seconds": seconds}
        record.add(f"kills, {self.what}", seed=self.seed, **facts)


def run(what: str, names: list[str], n: int | None, seed: int) -> Count:
    """One part of the torture, with its line and its row in the record."""
    count = Count(what, seed)
    with tempfile.TemporaryDirectory(prefix="torture-") as name:
        folder = Path(name)
        random_ones = what == "random"
        for outcome in at_random(folder, names, n or 1000, seed) if random_ones else every_call(folder, names, n, seed):
            count.add(outcome)
    print(count, flush=True)
    count.keep()
    return count


def main(arguments: list[str]) -> int:
    defaults = {"what": "calls", "n": "", "seed": "0", "cases": ",".join(CASES), "until": ""}
    options = defaults | dict(a.split("=", 1) for a in arguments)
    forked.warm_up()
    what, names, seed = options["what"], options["cases"].split(","), int(options["seed"])
    n = int(options["n"]) if options["n"] else None
    if not options["until"]:
        return int(run(what, names, n, seed).wrong > 0)
    wrong, seeds = 0, {int(row["seed"]) for row in record.rows(f"kills, {what}")}
    while record.trials(f"kills, {what}") < int(options["until"]):
        seed = max(seeds, default=seed) + 1
        seeds.add(seed)
        wrong += run(what, names, n or 200, seed).wrong
    return int(wrong > 0)


if __name__ == "__main__":
    import sys

    sys.exit(main(sys.argv[1:]))
