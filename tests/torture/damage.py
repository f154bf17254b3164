"""Damaged files: each damage is found and said, or refused in one line, or harmless; never another result in silence.

`python -m tests.torture.damage n=1000 seed=0`; `case=17` repeats a single trial of a seed and shows what it printed;
`scenes=mixture` takes only scenes whose names have that.
"""

import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

from ddpm_cli.errors import DdpmError
from ddpm_cli.runs import checkpoint

from . import forked, record
from .cases import compared, content_of
from .scenes import KINDS, LOOKED_AT, MAKERS, Scene, Use

CODES = {2, 3, 4, 6}
"""Exit codes of a command that refuses a file."""
PAGE = 4096
Result = Literal["found", "refused", "harmless", "WRONG"]
Content = dict[str, bytes | str]
UNREADABLE = "(cannot be read)"


class Damage(NamedTuple):
    """what: of `WAYS`; file: relative to the folder of the scene; other: what it was swapped with."""

    kind: str
    what: str
    file: str
    other: str = ""


class Verdict(NamedTuple):
    result: Result
    why: str


def flip(raw: bytearray, g: random.Random) -> bytes:
    for _ in range(g.choice((1, 1, 1, 8))):
        raw[g.randrange(len(raw))] ^= 1 << g.randrange(8)
    return bytes(raw)


def change(raw: bytearray, g: random.Random) -> bytes:
    """Other bytes; in text mostly other digits, so that it stays readable."""
    digits = [i for i, c in enumerate(raw) if 48 <= c < 58] if g.random() < 0.7 else []
    for _ in range(g.choice((1, 1, 4))):
        at = g.choice(digits) if digits else g.randrange(len(raw))
        raw[at] = 48 + (raw[at] - 48 + g.randrange(1, 10)) % 10 if digits else (raw[at] + g.randrange(1, 256)) % 256
    return bytes(raw)


def cut(raw: bytearray, g: random.Random) -> bytes:
    return bytes(raw[: g.choice((0, g.randrange(len(raw)), len(raw) - 1))])


def zero(raw: bytearray, g: random.Random) -> bytes:
    """A page, or the end of the file, that never reached the disk."""
    at = g.randrange(-(-len(raw) // PAGE)) * PAGE if len(raw) > PAGE else g.randrange(len(raw))
    return bytes(raw[:at] + bytes(len(raw[at : at + PAGE])) + raw[at + PAGE :])


def append(raw: bytearray, g: random.Random) -> bytes:
    return bytes(raw) + g.choice((g.randbytes(64), b"\0" * PAGE, bytes(raw[: g.randrange(1, 200)])))


BYTES: dict[str, Callable[[bytearray, random.Random], bytes]] = {
    "flip": flip, "change": change, "cut": cut, "zero": zero, "append": append,
}  # fmt: skip
WAYS = (*BYTES, "swap", "other run", "stale", "delete")


def damaged(scene: Scene, place: Path, g: random.Random) -> Damage:
    """Damage one file in `place`, a copy of the scene; one that the way does not change is tried again."""
    while True:
        kind = g.choice([k for k in scene.kinds if scene.files(k)])
        file = g.choice(scene.files(kind))
        damage = Damage(kind, g.choice(WAYS), file)
        path, before = place / file, (place / file).read_bytes()
        if damage.what in BYTES:
            path.write_bytes(BYTES[damage.what](bytearray(before), g))
        elif damage.what == "delete":
            path.unlink()
            return damage
        elif damage.what == "swap" and len(scene.files(kind)) > 1:
            damage = damage._replace(other=g.choice([f for f in scene.files(kind) if f != file]))
            path.write_bytes((place / damage.other).read_bytes())
            (place / damage.other).write_bytes(before)
        elif damage.what in ("stale", "other run"):
            older = scene.spare / ("older" if damage.what == "stale" else "other") / file
            if older.is_file():
                path.write_bytes(older.read_bytes())
        if path.read_bytes() != before:
            return damage


def read(place: Path, result: str) -> Content:
    """Each file of the result, by its name."""
    folder, found = place / result, Content()
    for path in compared(folder) if result else ():
        try:
            found[str(path.relative_to(place))] = content_of(path)
        except Exception:  # of a damaged file, NumPy raises nearly anything
            found[str(path.relative_to(place))] = UNREADABLE
    return found


class Undisturbed(NamedTuple):
    """What a command gives without damage."""

    content: Content
    out: str
    err: str


class Arena:
    """The scenes, each with the undisturbed results of its commands. A scene is made when it is first chosen."""

    def __init__(self, folder: Path, names: Sequence[str]):
        self.folder, self.names = folder, names
        self._made: dict[str, Scene] = {}
        self._known: dict[tuple[str, tuple[str, ...]], Undisturbed] = {}

    def scene(self, name: str) -> Scene:
        if name not in self._made:
            self._made[name] = MAKERS[name](self.folder / "scenes" / name)
        return self._made[name]

    def fresh(self, scene: Scene) -> Path:
        place = self.folder / "place"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(scene.start, place)
        return place

    def undisturbed(self, scene: Scene, use: Use) -> Undisturbed:
        key = scene.name, tuple(use.command)
        if key not in self._known:
            place = self.fresh(scene)
            ended = forked.run(place, use.command)
            assert ended.code == 0, (use.command, ended.err)
            self._known[key] = Undisturbed(read(place, use.result), ended.out, ended.err)
        return self._known[key]

    def trial(self, seed: int, number: int) -> tuple[Damage, str, Verdict, forked.Ended]:
        g = random.Random(seed * 1_000_003 + number)
        scene = self.scene(g.choice(self.names))
        use = g.choice(scene.uses)
        expected = self.undisturbed(scene, use)
        place = self.fresh(scene)
        damage = damaged(scene, place, g)
        ended = forked.run(place, use.command)
        verdict = judged(place, use, damage, ended, expected)
        if (
            verdict.result == "WRONG"
            and use.command[0] == "verify"
            and same(place / damage.file, scene.start / damage.file)
        ):
            verdict = Verdict("harmless", "")
        return damage, f"{scene.name}: {' '.join(use.command[:3])}", verdict, ended


def judged(place: Path, use: Use, damage: Damage, ended: forked.Ended, expected: Undisturbed) -> Verdict:
    """What became of the damage."""
    errors = [line for line in ended.err.splitlines() if line.startswith("ddpm: error:")]
    if ended.code is None or "Traceback" in ended.err + ended.out or "this is a bug" in ended.err:
        return Verdict("WRONG", f"exit code {ended.code}: {ended.err.strip()[-300:]}")
    if ended.code:
        if ended.code in CODES and len(errors) == 1:
            return Verdict("refused", errors[0])
        return Verdict("WRONG", f"exit code {ended.code} with {len(errors)} lines of error: {ended.err.strip()[-300:]}")
    line = said(ended, expected, damage)
    content = read(place, use.result)
    differ = {
        name for name in content.keys() | expected.content.keys() if content.get(name) != expected.content.get(name)
    }
    if not use.result and ended.out != expected.out:
        return Verdict("found", line) if line else Verdict("WRONG", f"prints other values: {ended.out[-300:]}")
    unnoticed = use.command[0] == "verify" and ended.out == expected.out and damage.kind not in LOOKED_AT
    if unnoticed and not (damage.kind == "manifest" and valid(place, damage)):
        return Verdict("WRONG", "verify does not notice it")
    if differ and use.command[0] == "train":
        differ -= {damage.file, damage.other} if line or remains(place, damage) else set()
        if differ:
            return Verdict("WRONG", f"{sorted(differ)} differ; said: {line or 'nothing'}")
    elif differ and not line:
        return Verdict("WRONG", f"{sorted(differ)[:4]} differ, and nothing is said")
    return Verdict("found", line) if line else Verdict("harmless", "")


def same(path: Path, before: Path) -> bool:
    """Whether a file still says the same, as JSON without its last line end does."""
    try:
        return content_of(path) == content_of(before)
    except Exception:  # of a damaged file, NumPy raises nearly anything
        return False


def remains(place: Path, damage: Damage) -> bool:
    """Whether the file may stay as the damage left it.

    Nobody reads it; or it belongs to a checkpoint that was not used, and whoever does use it finds the damage, or what
    was put back is a valid copy of the same step.
    """
    return damage.kind in LOOKED_AT or (damage.kind in ("tensors", "manifest") and valid(place, damage) is not None)


def valid(place: Path, damage: Damage) -> bool | None:
    """Whether the checkpoint is valid as it is now; None if that is not found out in the right way."""
    try:
        checkpoint.load((place / damage.file).with_suffix(".json"))
    except DdpmError:
        return False
    return True if damage.what == "stale" else None


def said(ended: forked.Ended, expected: Undisturbed, damage: Damage) -> str:
    """The first line that speaks of the damaged file and is not printed without damage; "" if there is none."""
    before = {*expected.err.splitlines(), *expected.out.splitlines()}
    path = Path(damage.file)
    names = {path.name, path.stem, path.parent.name if damage.kind.startswith("kept") else path.name}
    words = ("instead", "damaged", "missing", "invalid", "cannot be read", "not as it was", *names)
    lines = [line for line in (ended.err + ended.out).splitlines() if line not in before]
    return next((line for line in lines if any(word in line for word in words)), "")


class Table:
    """Counts, by kind of file and of damage."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str, Result]] = Counter()

    def add(self, damage: Damage, result: Result) -> None:
        self.counts[damage.kind, damage.what, result] += 1

    def total(self, result: Result | None = None) -> int:
        return sum(n for (_, _, r), n in self.counts.items() if result in (None, r))

    def __str__(self) -> str:
        """Cells: found / refused / harmless, and WRONG if there are any."""
        lines = ["| file | " + " | ".join(WAYS) + " |", "|---|" + "---|" * len(WAYS)]
        for kind in KINDS:
            cells = [self._cell(kind, way) for way in WAYS]
            if any(cells):
                lines.append(f"| {kind} | " + " | ".join(cells) + " |")
        return "\n".join(lines)

    def _cell(self, kind: str, way: str) -> str:
        each: Mapping[str, int] = {r: self.counts[kind, way, r] for r in ("found", "refused", "harmless", "WRONG")}  # type: ignore[index]
        if not any(each.values()):
            return ""
        text = "/".join(str(each[r]) for r in ("found", "refused", "harmless"))
        return f"{text} WRONG {each['WRONG']}" if each["WRONG"] else text


def run(options: Mapping[str, str], table: Table) -> None:
    """All trials; Ctrl-C ends them."""
    one, first = bool(options["case"]), int(options["case"] or options["first"])
    with (
        tempfile.TemporaryDirectory(prefix="torture-", ignore_cleanup_errors=True) as folder,
        suppress(KeyboardInterrupt),
    ):
        arena = Arena(Path(folder), [name for name in MAKERS if re.search(options["scenes"], name)])
        for number in range(first, first + (1 if one else int(options["n"]))):
            damage, where, verdict, ended = arena.trial(int(options["seed"]), number)
            table.add(damage, verdict.result)
            if verdict.result == "WRONG" or one:
                print(f"case={number} {verdict.result}: {damage} {where}: {verdict.why}", flush=True)
            if one:
                print(ended.out, ended.err)
            if table.total() % 50 == 0:
                print(f"{table.total()} trials, {table.total('WRONG')} wrong", flush=True)


def main(arguments: list[str]) -> int:
    defaults = {"n": "1000", "seed": "0", "case": "", "first": "0", "scenes": ""}
    options, began, table = defaults | dict(a.split("=", 1) for a in arguments), time.monotonic(), Table()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell script's background jobs ignore it
    forked.warm_up()
    run(options, table)
    seconds, facts = round(time.monotonic() - began), {"trials": table.total(), "wrong": table.total("WRONG")}
    counted = f"{facts['trials']} trials, {facts['wrong']} wrong, {seconds} s"
    print(f"{table}\n\nfound/refused/harmless; seed {options['seed']}: {counted}")
    record.add("damage", seed=int(options["seed"]), **facts, seconds=seconds)
    return int(facts["wrong"] > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
