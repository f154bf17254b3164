"""Wrong inputs by the thousand: each must end as a valid run, or as one line with an exit code of the contract.

python -m tests.torture.fuzz kind=lines|yaml|checkpoints|pictures n=5000 seed=0    random cases
python -m tests.torture.fuzz kind=lines seed=0 case=1234                          one of them again
python -m tests.torture.fuzz kept                                                 those that once failed
python -m tests.torture.fuzz short                                                some of each kind
"""

import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from . import checkpoints, lines, pictures, record, yamls
from .server import Case, Outcome, Server
from .shrink import kind_of, shrunk

KINDS = {"lines": lines, "yaml": yamls, "checkpoints": checkpoints, "pictures": pictures}
KEPT = Path(__file__).parent / "kept"
SHORT = 25
"""Cases of each kind in the ordinary tests."""
SAME = 1
"""Failures of one kind that are shrunk and shown; more are only counted."""


def case(kind: str, seed: int, number: int) -> Case:
    return KINDS[kind].generate(random.Random(f"{kind}/{seed}/{number}"))


def kept() -> Iterator[Case]:
    """The cases in kept/: one a line. Lines that start with # are comments."""
    for path in sorted(KEPT.glob("*.txt")):
        for line in path.read_text(encoding="utf-8").splitlines():
            if line and not line.startswith("#"):
                yield Case.of(line)


class Tally:
    """What came of the cases so far."""

    def __init__(self) -> None:
        self.codes: Counter[int] = Counter()
        self.wrong: list[float] = []
        self.failed: Counter[str] = Counter()
        self.began = time.monotonic()

    def add(self, outcome: Outcome) -> None:
        self.codes[outcome.code] += 1
        if outcome.code:
            self.wrong.append(outcome.seconds)
        if outcome.problem:
            self.failed[kind_of(outcome)] += 1

    def __str__(self) -> str:
        codes = ", ".join(f"{n} with code {code}" for code, n in sorted(self.codes.items()))
        median = f"{statistics.median(self.wrong):.2f} s" if self.wrong else "-"
        longest = f"{max(self.wrong):.1f} s" if self.wrong else "-"
        return (
            f"{self.codes.total()} cases in {time.monotonic() - self.began:.0f} s: {codes}; wrong inputs take {median} "
            f"(median), {longest} (longest); {self.failed.total()} failures of {len(self.failed)} kinds"
        )


def run(kind: str, seed: int, numbers: range, server: Server) -> Tally:
    """Run cases of one kind; show each failure, shrunk, with what repeats it."""
    tally, cases = Tally(), dict[str, int]()
    failed: list[tuple[int, Outcome]] = []

    def generated() -> Iterator[Case]:
        for number in numbers:
            made = case(kind, seed, number)
            cases[made.line()] = number
            yield made

    for outcome in server.outcomes(generated()):
        number = cases.pop(outcome.case.line(), numbers.start)
        tally.add(outcome)
        if outcome.problem and tally.failed[kind_of(outcome)] <= SAME:
            failed.append((number, outcome))
            say(f"failed: case={number}: {outcome.problem}")
        if tally.codes.total() % 250 == 0:
            say(f"{kind}: {tally}")
    say(f"{kind}: {tally}")
    facts = {"trials": tally.codes.total(), "wrong": tally.failed.total()}
    record.add(f"fuzz, {kind}", seed=seed, **facts, seconds=round(time.monotonic() - tally.began))
    for number, outcome in failed:
        small = shrunk(outcome, server.one)
        say(f"FAILED kind={kind} seed={seed} case={number}: {small.problem}\n  {small.case.line()}")
    return tally


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    options = dict(a.split("=", 1) for a in arguments if "=" in a)
    seed = int(options.get("seed", 0))
    with Server(int(options.get("at_once", 2))) as server:
        if "kept" in arguments:
            failed = [o for o in server.outcomes(kept()) if o.problem]
            for outcome in failed:
                say(f"FAILED: {outcome.problem}\n  {outcome.case.line()}")
            return int(bool(failed))
        if "case" in options:
            outcome = server.one(case(options["kind"], seed, int(options["case"])))
            say(outcome.case.line())
            say(f"exit code {outcome.code}, {outcome.seconds:.2f} s, {outcome.problem}\n{outcome.err}")
            return int(bool(outcome.problem))
        kinds = list(KINDS) if "short" in arguments else [options["kind"]]
        n = int(options.get("n", SHORT))
        start = int(options.get("start", 0))
        return int(any(run(kind, seed, range(start, start + n), server).failed for kind in kinds))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
