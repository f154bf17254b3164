"""Errors of the file system, injected at every call that touches a file of a command; then the end is compared.

`python -m tests.torture.storage n=N seed=S cases=diffusion,sample`; without n, every call with every error. Each fault
comes once, or at that call and at all later ones of its kind. See disks.py for real disks.
"""

import io
import os
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ddpm_cli.runs import checkpoint

from . import forked, record
from .cases import CASES, content, readable
from .kills import Arena

FULL = ("ENOSPC", "EIO", "EDQUOT", "EFBIG")
RENAME = ("EIO", "EBUSY", "ESTALE")
NO_LOCKS = ("ENOLCK", "EOPNOTSUPP", "ENOSYS")
SLOW = "slow"
DELAY = 1_500_000
"""Microseconds of a slow call."""
FAULTS = {
    **dict.fromkeys(("write", "pwrite64", "writev", "ftruncate", "copy_file_range"), FULL),
    "openat": ("EMFILE", "EIO", "ESTALE", "EROFS"),
    "close": ("ENOSPC", "EDQUOT", "EIO"),  # where a network file system says that the disk is full
    **dict.fromkeys(("fsync", "fdatasync"), ("EIO", "ENOSPC", SLOW)),
    **dict.fromkeys(("rename", "renameat", "renameat2"), RENAME),
    **dict.fromkeys(("flock",), NO_LOCKS),
    **dict.fromkeys(("mkdir", "mkdirat", "symlink", "symlinkat"), ("ENOSPC", "EROFS")),
    **dict.fromkeys(("unlink", "unlinkat", "rmdir"), ("EIO", "EBUSY", "EROFS")),
    **dict.fromkeys(("chmod", "fchmod", "fchmodat"), ("EPERM", "EOPNOTSUPP")),
}
OF_OPEN_FILES = ("write", "pwrite64", "writev", "ftruncate", "close", "fsync", "fdatasync", "flock", "fchmod")
OPTIONAL = ("samples/", "metrics.jsonl", "train.log", "tensorboard/")
"""Files of a run that training goes on without."""
EXIT_CODES = {0, 2, 3, 4, 6}
"""Those that fit: done, a logger that cannot start, unreadable data or checkpoints, storage."""
UNWANTED = ("Traceback", "this is a bug", "Exception ignored", "Exception in thread")


class Fault(NamedTuple):
    """The error at the n-th call of a kind by any thread; `on`: and at all later ones."""

    call: str
    n: int
    error: str
    on: bool

    def options(self) -> list[str]:
        """For strace. Renames are always traced, as they show which checkpoints are complete."""
        what = f"delay_enter={DELAY}" if self.error == SLOW else f"error={self.error}"
        inject = f"inject={self.call}:{what}:when={self.n}{'+' if self.on else ''}"
        return ["-y", "-e", f"trace={self.call},rename,renameat,renameat2", "-e", inject]


class Call(NamedTuple):
    """A traced call. path: of the file that it touches, absolute; of a rename, the new one."""

    thread: str
    name: str
    path: Path
    hit: bool
    failed: bool


class Spared(io.RawIOBase):
    """Writes in a way that no fault hits, so that what the command says is seen; in this process as usual."""

    def __init__(self, descriptor: int):
        self._descriptor, self._parent = descriptor, os.getpid()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def write(self, data: "bytes | bytearray | memoryview") -> int:  # type: ignore[override]
        if os.getpid() == self._parent:
            return os.write(self._descriptor, data)
        return os.pwritev(self._descriptor, [data], os.fstat(self._descriptor).st_size)


def spare_streams() -> None:
    """Make this process and its forks write stdout and stderr by `Spared`."""
    for name, number in (("stdout", 1), ("stderr", 2)):
        raw = io.BufferedWriter(Spared(number))  # type: ignore[type-var]
        setattr(sys, name, io.TextIOWrapper(raw, "utf-8", "backslashreplace", line_buffering=True, write_through=True))


def calls(log: Path, place: Path) -> Iterator[Call]:
    """The calls in a log of `strace -y`, of a command in `place`."""
    for line in log.read_text(errors="replace").splitlines():
        if match := re.match(r"(\d+) +(\w+)\((?:(?:\d+|AT_FDCWD)<([^>]*)>)?(.*)", line):
            thread, name, opened, rest = match.groups()
            texts = [] if name in OF_OPEN_FILES else re.findall(r'"((?:[^"\\]|\\.)*)"', rest)
            path = Path(opened or place, texts[-1] if texts else "")
            yield Call(thread, name, place / path, "(INJECTED)" in line or "(DELAYED)" in line, " = -1 " in line)


class Storage:
    """A case and the calls at which something can go wrong."""

    def __init__(self, name: str, folder: Path):
        self.arena = Arena(CASES[name], folder)
        self.trains = CASES[name].command[0] == "train"

    def faults(self) -> list[Fault]:
        """Every fault at every call that touches a file below the folder of the case."""
        log, place = self.arena.folder / "trace", self.arena.fresh("traced")
        ended = forked.traced(place, self.arena.case.command, ["-y", "-e", f"trace={','.join(FAULTS)}"], log)
        assert ended.code == 0, ended.err
        counts, found = Counter[tuple[str, str]](), set[tuple[str, int]]()
        for call in calls(log, place):
            counts[call.thread, call.name] += 1
            if call.path.is_relative_to(place) and call.path != place:
                found.add((call.name, counts[call.thread, call.name]))
        return [Fault(*at, error, on) for at in sorted(found) for error in FAULTS[at[0]] for on in (False, True)]

    def problem(self, fault: Fault) -> str:
        """What is wrong after this fault; "" if nothing is."""
        place, log = self.arena.fresh("hit"), self.arena.folder / "trace"
        ended = forked.traced(place, self.arena.case.command, fault.options(), log, limit=90)
        seen = list(calls(log, place))
        hits = [call.path for call in seen if call.hit]
        ours = [path for path in hits if path.is_relative_to(place)]
        if wrong := said(ended, ours, fault) or self._ended_early(ended, place, ours):
            return f"{wrong}\n    hit: {[str(p.relative_to(place)) for p in ours[:3]]} of {len(hits)}"
        if wrong := readable(place) or behind(place, seen):
            return wrong
        again = forked.run(place, self.arena.case.command)
        if again.code != 0:
            return f"then exit code {again.code}: {again.err.strip()[-300:]}"
        return self._differs(place, ours if ended.code == 0 else [])

    def _ended_early(self, ended: forked.Ended, place: Path, hits: list[Path]) -> str:
        """Whether a picture or a log alone ended a training that had begun."""
        run = place / self.arena.case.result
        if ended.code == 0 or not self.trains or not hits or not all(_optional(path, run) for path in hits):
            return ""
        began = any((run / "checkpoints").glob("*.json"))
        return f"ended by a file that training goes on without: {ended.err.strip()[-300:]}" if began else ""

    def _differs(self, place: Path, lost: list[Path]) -> str:
        """How the end differs from the undisturbed one, besides pictures and logs that were lost."""
        run = place / self.arena.case.result
        names = {name for path in lost if (name := _optional(path, run))}
        try:
            found = content(run)
        except (OSError, ValueError, KeyError) as error:
            return f"unreadable: {error!r}"
        compared = {n for n in found.keys() | self.arena.expected.keys() if not n.startswith(tuple(names))}
        different = sorted(n for n in compared if found.get(n) != self.arena.expected.get(n))
        return f"differs: {different}" if different else ""


def _optional(path: Path, run: Path) -> str:
    """Of `OPTIONAL`, the file or folder that `path` is or is in; "" if it is none of them."""
    return next((name for name in OPTIONAL if path == run / name or (run / name) in path.parents), "")


def said(ended: forked.Ended, hits: list[Path], fault: Fault) -> str:
    """What is wrong with the exit code and with what the command says. hits: the files of the case that failed."""
    lines = [line for line in ended.err.splitlines() if line.startswith("ddpm: error:")]
    end = ended.err.strip()[-400:]
    if ended.code not in EXIT_CODES or len(lines) != (ended.code != 0):
        return f"exit code {ended.code}, {len(lines)} lines, {ended.seconds:.0f} s: {end}"
    if unwanted := [text for text in UNWANTED if text in ended.err + ended.out]:
        return f"{unwanted[0]}: {end}"
    if lines and hits and not any(_names(lines[0], path) for path in hits):
        return f"names no file that failed: {lines[0]}"
    if fault.error == SLOW and ended.code:
        return f"a slow disk: {end}"
    return ""


def _names(line: str, path: Path) -> bool:
    """Whether a line names a file, or its folder. A temporary file has the name of the one that it becomes in it."""
    name = re.sub(r"\.\d+\.part$|\.new$", "", path.name)
    while name != (shorter := re.sub(r"^\.(.+?)(\.\d+\.part|\.new)?$", r"\1", name)):
        name = shorter
    after = ":/" if path.name.startswith(".tmp") else ":"  # safetensors has temporary files of its own
    return any(text in line for text in (path.name, name, *(f"{path.parent.name}{end}" for end in after)))


def behind(place: Path, seen: list[Call]) -> str:
    """Whether a checkpoint that was complete is lost."""
    renamed = (call.path.name for call in seen if call.name.startswith("rename") and not call.failed)
    steps = [int(match[1]) for name in renamed if (match := re.fullmatch(r"step_(\d+)\.json", name))]
    newest = checkpoint.latest(place / "run/checkpoints") if steps else None
    return f"step {max(steps)} is lost" if steps and (newest is None or newest.step < max(steps)) else ""


def chosen(folder: Path, names: list[str], n: int | None, seed: int) -> Iterator[tuple[Storage, Fault]]:
    """Every fault of these cases, or n of them, chosen by the seed."""
    cases = [Storage(name, folder / name) for name in names]
    for i, case in enumerate(cases):
        faults = case.faults()
        most = None if n is None else n * (i + 1) // len(cases) - n * i // len(cases)
        if most is not None and most < len(faults):
            faults = sorted(random.Random(seed).sample(faults, most))
        yield from ((case, fault) for fault in faults)


def main(arguments: list[str]) -> int:
    options = {"n": "", "seed": "0", "cases": ",".join(CASES)} | dict(a.split("=", 1) for a in arguments)
    spare_streams()
    forked.warm_up()
    n, seed, began, trials, wrong = int(options["n"] or 0) or None, int(options["seed"]), time.monotonic(), 0, 0
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        for case, fault in chosen(Path(folder), options["cases"].split(","), n, seed):
            trials += 1
            if problem := case.problem(fault):
                wrong += 1
                print(f"{case.arena.case.name} {' '.join(map(str, fault))}: {problem}", flush=True)
            if trials % 50 == 0:
                print(f"storage, seed {seed}: {trials} trials, {wrong} wrong", flush=True)
    seconds = round(time.monotonic() - began)
    record.add("storage", seed=seed, trials=trials, wrong=wrong, seconds=seconds)
    print(f"storage, seed {seed}: {trials} trials, {wrong} wrong, {seconds} s")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
