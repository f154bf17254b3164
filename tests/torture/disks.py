"""Real disks that are full, read-only, another user's or gone, and the limits of a shell; needs root and Linux.

`python -m tests.torture.disks seed=S [only=full,gone,...]`
"""

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ddpm_cli.runs import checkpoint

from . import forked, record
from .cases import CASES, DIFFUSION, content
from .storage import UNWANTED

ROOT = Path(__file__).parents[2]
NOBODY = 65534
READS = "-all,+dac_read_search"
"""Capabilities of a user who can read everything here, so that the interpreter can be in the home of another."""
SHORT = ("train", "sample", "eval", "gif")


class Result(NamedTuple):
    what: str
    problem: str


def commands(out: Path) -> dict[str, list[str]]:
    """One command of each kind, that writes into `out`, in a folder with a finished run."""
    kinds = {"train": "diffusion", "sample": "sample", "eval": "eval", "gif": "gif"}
    places = {"run_dir=run": f"run_dir={out}/run", "out=out": f"out={out}/out", "out=out/x.gif": f"out={out}/x.gif"}
    return {name: [places.get(a, a) for a in CASES[case].command] for name, case in kinds.items()}


@contextmanager
def disk(place: Path, size: str) -> Iterator[Path]:
    """A disk in memory, of this size."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)
        place.rmdir()


def said(ended: forked.Ended, codes: set[int], *texts: str) -> str:
    """What is wrong with the exit code or the message."""
    lines, end = [x for x in ended.err.splitlines() if x.startswith("ddpm: error:")], ended.err.strip()[-500:]
    if ended.code not in codes or len(lines) != (ended.code != 0):
        return f"exit code {ended.code}, {len(lines)} lines: {end}"
    if unwanted := [text for text in UNWANTED if text in ended.err + ended.out]:
        return f"{unwanted[0]}: {end}"
    missing = [text for text in texts if ended.code and text not in lines[0]]
    return f"{missing} missing: {lines[0]}" if missing else ""


def program(folder: Path, arguments: Sequence[str], before: Sequence[str]) -> forked.Ended:
    """A command in a process of its own, started by another program that sets limits."""
    code = "from ddpm_cli.cli import main; main()"
    began, environment = time.monotonic(), os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    result = subprocess.run(
        [*before, sys.executable, "-c", code, *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    return forked.Ended(result.returncode, result.stdout, result.stderr, time.monotonic() - began)


class Disks:
    """folder: has a finished run, `run`."""

    def __init__(self, folder: Path, seed: int):
        self.folder, self.random = folder, random.Random(seed)
        self.work = folder / "work"
        self.work.mkdir()
        whole = forked.run(self.work, DIFFUSION)
        assert whole.code == 0, whole.err
        self.expected = content(self.work / "run")

    def full(self) -> Iterator[Result]:
        """Full at the start: refused, with what is needed."""
        for name, command in commands(self.folder / "disk").items():
            with disk(self.folder / "disk", "64k") as place:
                (place / "ballast").write_bytes(bytes(60_000))
                ended = forked.run(self.work, command)
                left = [p.name for p in place.rglob("*") if p.name != "ballast"]
                yield Result(f"full {name}", said(ended, {6}, str(place)) or (f"left {left}" if left else ""))

    def filling(self) -> Iterator[Result]:
        """Full during the work: ballast takes the room at a random instant; then it is removed."""
        for name, command in commands(self.folder / "disk").items():
            for _ in range(4):
                with disk(self.folder / "disk", "12m") as place:
                    child, left = forked.Child(self.work, command), self.random.choice((0, 4096, 30_000, 200_000))
                    time.sleep(self.random.uniform(0.05, 1.0))
                    with (place / "ballast").open("wb") as file:
                        os.posix_fallocate(file.fileno(), 0, max(4096, shutil.disk_usage(place).free - left))
                    ended = child.wait()
                    (place / "ballast").unlink()
                    yield Result(f"filling {name}", said(ended, {0, 6}, str(place)) or self._again(name, place, ended))

    def _again(self, name: str, place: Path, ended: forked.Ended) -> str:
        again = forked.run(self.work, commands(place)[name])
        if again.code:
            return f"then exit code {again.code}: {again.err[-300:]}"
        if name != "train" or (ended.code == 0 and "warning" in ended.err):
            return ""
        found = content(place / "run")
        different = [n for n in found.keys() | self.expected.keys() if found.get(n) != self.expected.get(n)]
        return f"differs: {different}" if different else ""

    def readonly(self) -> Iterator[Result]:
        for name, command in commands(self.folder / "disk").items():
            with disk(self.folder / "disk", "1m") as place:
                subprocess.run(["mount", "-o", "remount,ro", place], check=True)
                yield Result(f"readonly {name}", said(forked.run(self.work, command), {6}, str(place)))

    def gone(self) -> Iterator[Result]:
        """A folder is removed at a random instant: a training ends with its last checkpoint."""
        for name, command in commands(self.folder / "gone").items():
            for what in ("", "run", "run/checkpoints", "run/samples") if name == "train" else ("", "out", "out/images"):
                place = self.folder / "gone"
                shutil.rmtree(place, ignore_errors=True)
                child = forked.Child(self.work, command)
                time.sleep(self.random.uniform(0.1, 1.2))
                shutil.rmtree(place / what, ignore_errors=True)
                ended = child.wait()
                wrong = said(ended, {0, 6}, str(place))
                if not wrong and name == "train" and ended.code == 0:
                    newest = checkpoint.latest(place / "run/checkpoints")
                    wrong = "" if newest is not None and newest.step == 6 else f"the end is not saved: {newest}"
                if not wrong and name == "train":
                    again = forked.run(self.work, command)
                    wrong = f"then {again.err[-300:]}" if again.code else ""
                yield Result(f"gone {name} {what or 'all'}", wrong)

    def foreign(self) -> Iterator[Result]:
        """The folder of another user."""
        place = self.folder / "foreign"
        place.mkdir()
        self.folder.chmod(0o755)
        user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        user += [f"--inh-caps={READS}", f"--ambient-caps={READS}", f"--bounding-set={READS}"]
        for name, command in commands(place).items():
            ended = program(self.work, command, user)
            yield Result(f"foreign {name}", said(ended, {6}, str(place)))

    def descriptors(self) -> Iterator[Result]:
        """Few open files."""
        for most in (16, 20, 24, 32, 40):
            for name, command in commands(self.folder / "few").items():
                shutil.rmtree(self.folder / "few", ignore_errors=True)
                ended = program(self.work, command, ["prlimit", f"--nofile={most}"])
                yield Result(f"descriptors {most} {name}", said(ended, {0, 6}, "pen files"))

    def sizes(self) -> Iterator[Result]:
        """A limit on the size of files."""
        for most in (100, 10_000, 100_000):
            for name, command in commands(self.folder / "small").items():
                shutil.rmtree(self.folder / "small", ignore_errors=True)
                ended = program(self.work, command, ["prlimit", f"--fsize={most}"])
                yield Result(f"sizes {most} {name}", said(ended, {0, 6}, str(self.folder / "small")))

    def cache(self) -> Iterator[Result]:
        """No room for, or no right to write, a cache of decoded pictures: they are decoded into memory."""
        pictures = self.work / "pictures"
        pictures.mkdir()
        for i in range(20):
            Image.fromarray(np.full((64, 64, 3), i * 10, np.uint8)).save(pictures / f"{i}.png")
        command = [*DIFFUSION, "dataset=image_folder", f"dataset.root={pictures}", "dataset.size=16", "run_dir=cached"]
        command += [f"dataset.cache={self.folder / 'disk'}/cache", "dataset.val_fraction=0.2"]
        for what in ("full", "ro"):
            with disk(self.folder / "disk", "64k") as place:
                (place / "ballast").write_bytes(bytes(65_536))
                if what == "ro":
                    subprocess.run(["mount", "-o", "remount,ro", place], check=True)
                shutil.rmtree(self.work / "cached", ignore_errors=True)
                ended = forked.run(self.work, command)
                warned = (
                    "" if "cannot cache the decoded pictures in" in ended.err else f"no warning: {ended.err[-300:]}"
                )
                yield Result(f"cache {what}", said(ended, {0}) or warned)


def main(arguments: list[str]) -> int:
    parts = ["full", "filling", "readonly", "gone", "foreign", "descriptors", "sizes", "cache"]
    options = {"seed": "0", "only": ",".join(parts)} | dict(a.split("=", 1) for a in arguments)
    forked.warm_up()
    began, trials, wrong = time.monotonic(), 0, 0
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        disks = Disks(Path(folder), int(options["seed"]))
        for part in options["only"].split(","):
            check: Callable[[], Iterator[Result]] = getattr(disks, part)
            for result in check():
                trials, wrong = trials + 1, wrong + bool(result.problem)
                print(f"{result.what}: {result.problem or 'ok'}", flush=True)
    seconds = round(time.monotonic() - began)
    record.add("disks", seed=int(options["seed"]), trials=trials, wrong=wrong, seconds=seconds)
    print(f"disks, seed {options['seed']}: {trials} trials, {wrong} wrong, {seconds} s")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
