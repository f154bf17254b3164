"""Many processes at once: in one folder, in unnamed folders, and readers of a run that saves and prunes.

`python -m tests.torture.sharing n=20`
"""

import os
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from ddpm_cli.errors import CheckpointError
from ddpm_cli.runs import checkpoint

from . import forked, record
from .cases import SMALL, TINY

TRAIN = ["train", *SMALL, *TINY, "logger=none", "trainer.sample_every=0", "trainer.eval_every=0"]


def one_folder(folder: Path, n: int) -> str:
    """One of n processes trains in a folder, the others are refused."""
    places = [folder / f"from-{i}" for i in range(n)]
    for place in places:
        place.mkdir()
        (place / "run").symlink_to(folder / "shared")
    (folder / "shared").mkdir()
    children = [forked.Child(place, [*TRAIN, "run_dir=run", "trainer.steps=2000"]) for place in places]
    deadline = time.monotonic() + 120
    codes: list[int | None] = []
    alive = list(children)
    while len(alive) > 1 and time.monotonic() < deadline:  # the refused end by themselves
        for child in list(alive):
            if os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                codes.append(child.wait(1).code)
                alive.remove(child)
        time.sleep(0.01)
    for child in alive:
        child.signal(signal.SIGKILL)
        codes.append(child.wait().code)
    found = Counter(codes)
    return "" if found == {8: n - 1, -signal.SIGKILL: 1} else f"one folder: exit codes {dict(found)}"


def unnamed(folder: Path, n: int) -> str:
    """n runs without a run_dir, started at once in one folder, get n folders."""
    place = folder / "unnamed"
    place.mkdir()
    children = []
    for i in range(n):
        child = forked.Child(place, [*TRAIN, "trainer.steps=1"])
        child.logs = [folder / f"unnamed-{i}.{s}" for s in ("out", "err")]
        children.append(child)
    codes = Counter(child.wait(120).code for child in children)
    runs = list((place / "outputs").glob("*/*/checkpoints/step_00000001.json"))
    real = {path.resolve() for path in runs if "latest" not in path.parts}
    return "" if codes == {0: n} and len(real) == n else f"unnamed: exit codes {dict(codes)}, {len(real)} folders"


def readers(folder: Path, n: int) -> str:
    """Reading n times while a run saves and prunes at every step."""
    place = folder / "read"
    place.mkdir()
    run = [*TRAIN, "run_dir=run", "trainer.steps=100000", "trainer.save_every=1", "trainer.keep_last=2"]
    child = forked.Child(place, run)
    problems, done, last = [], 0, -1
    deadline = time.monotonic() + 180
    while done < n and time.monotonic() < deadline:
        try:
            found = checkpoint.latest(place / "run/checkpoints")
            if found is None:
                continue
            if found.step < last:
                problems.append(f"step {found.step} after step {last}")
            last, done = found.step, done + 1
            found.tensors("model.")
        except CheckpointError as error:
            problems.append(str(error))
    child.signal(signal.SIGKILL)
    child.wait()
    return f"readers: {len(problems)} of {done}: {problems[0]}" if problems or done < n else ""


def main(arguments: list[str]) -> int:
    n = int(dict(a.split("=", 1) for a in arguments).get("n", 20))
    forked.warm_up()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="torture-") as name:
        problems = [check(Path(name), k) for check, k in ((one_folder, n), (unnamed, n), (readers, 10 * n))]
    for problem in filter(None, problems):
        print(problem)
    wrong = sum(map(bool, problems))
    record.add("sharing", trials=12 * n, wrong=wrong, seconds=round(time.monotonic() - began))
    print(f"sharing: {n} in one folder, {n} unnamed, {10 * n} reads, {wrong} wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
