"""One long training: whether its memory, open files, threads or the files in its folder grow.

`python -m tests.torture.growth steps=20000`: with 500 saves, 50 pictures and TensorBoard, watched from outside.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from . import record
from .cases import SMALL, TINY

SAVES, PICTURES = 500, 50
EVERY = 0.25
"""Seconds between two looks."""
MEMORY = 4.0
"""MiB that resident memory may vary by."""
WRITTEN = 3
"""Files of a checkpoint that is being written, before an older one is removed."""
ROOT = Path(__file__).parents[2]


class Look(NamedTuple):
    """resident: MiB; opened: file descriptors; kept: files in the run directory besides its pictures."""

    step: int
    resident: float
    opened: int
    threads: int
    kept: int


def look(process: int, run: Path) -> Look:
    """How the process is now. Raises OSError when it is gone, ValueError and IndexError before its first row."""
    of = Path(f"/proc/{process}")
    pages = int((of / "statm").read_text().split()[1])
    opened, threads = (sum(1 for _ in (of / name).iterdir()) for name in ("fd", "task"))
    with (run / "metrics.jsonl").open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 2000))
        last = file.read().splitlines()[-2]
    step = int(last.partition(b'"step": ')[2].partition(b",")[0])
    kept = sum(1 for p in run.rglob("*") if p.is_file() and p.suffix not in (".png", ".part", ".new"))
    return Look(step, pages * os.sysconf("SC_PAGE_SIZE") / 2**20, opened, threads, kept)


def watched(place: Path, steps: int) -> list[Look]:
    """Train in `place`. Raises RuntimeError if that fails."""
    every = {
        "save": steps // SAVES,
        "sample": steps // PICTURES,
        "eval": steps // PICTURES,
        "log": max(1, steps // 1000),
    }
    command = ["train", "run_dir=run", *SMALL, *TINY, f"trainer.steps={steps}", "trainer.save_seconds=null"]
    command += [f"trainer.{name}_every={n}" for name, n in every.items()] + ["logger=tensorboard"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    looks: list[Look] = []
    with (place / "log").open("wb") as log:
        child = subprocess.Popen([sys.executable, "-m", "ddpm_cli", *command], cwd=place, env=environment, stdout=log,
                                 stderr=log)  # fmt: skip
        while child.poll() is None:
            with suppress(OSError, ValueError, IndexError):
                looks.append(look(child.pid, place / "run"))
            time.sleep(EVERY)
    if child.returncode:
        raise RuntimeError((place / "log").read_text()[-500:])
    return looks


def growth(looks: Sequence[Look], steps: int) -> list[str]:
    """What was larger at the end than after the first tenth."""
    early = [x for x in looks if steps / 10 <= x.step < 2 * steps / 10]
    late = [x for x in looks if x.step >= 9 * steps / 10]
    problems = []
    for name, spare in (("resident", MEMORY), ("opened", 0), ("threads", 0), ("kept", WRITTEN)):
        before, after = (max(getattr(x, name) for x in part) for part in (early, late))
        print(f"{name}: {before:.1f} in the second tenth, {after:.1f} in the last tenth")
        if after > before + spare:
            problems.append(f"{name} grows: {before:.1f} -> {after:.1f}")
    return problems


def main(arguments: list[str]) -> int:
    steps, began = int(dict(a.split("=", 1) for a in arguments).get("steps", 20000)), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="torture-") as name:
        looks = watched(Path(name), steps)
        pictures = len(list(Path(name, "run/samples").glob("*.png")))
    problems = growth(looks, steps)
    for problem in problems:
        print(problem)
    seconds = round(time.monotonic() - began)
    record.add("growth", trials=steps, wrong=len(problems), seconds=seconds)
    print(f"growth: {steps} steps, {SAVES} saves, {pictures} pictures, {len(looks)} looks, {seconds} s")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
