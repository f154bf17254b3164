"""Whether runs survive on this machine and this disk: a small run is killed, damaged and resumed there."""

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ..errors import BusyError, CheckpointError, StorageError
from ..files import shown
from ..locks import Lock
from ..progress import Progress
from ..runs import checkpoint
from .replay import without_logs

STEPS = 12
RUN = (
    "model=unet_tiny", "model.channels=8", "dataset=digits", "trainer=quick", f"trainer.steps={STEPS}",
    "trainer.batch_size=8", "trainer.save_every=2", "trainer.sample_every=0", "trainer.eval_every=0",
    "trainer.device=cpu", "logger=none",
)  # fmt: skip
PATIENCE = 300.0
"""Seconds after which a process counts as hung."""


class Check(NamedTuple):
    """problem: "" = as it should be."""

    what: str
    trials: int
    problem: str
    seconds: float


class SelfTest:
    """
    Args:
        folder: an empty folder on the disk to test.
        kills: how often the run is killed.
        seed: of the moments.
    """

    def __init__(self, folder: Path, kills: int, seed: int = 0):
        self.folder, self.kills, self.random = folder, kills, random.Random(seed)  # noqa: S311 (no secret)
        self.duration = 5.0

    def __call__(self, progress: Progress) -> Iterator[Check]:
        checks: list[tuple[str, Callable[[], tuple[int, str]]]] = [
            ("a run is written", self._written),
            (f"killed {self.kills} times, it ends bit for bit the same", self._killed),
            ("a changed byte in the tensors is found, the checkpoint before is used", self._tensors_damaged),
            ("a cut manifest is found, the checkpoint before is used", self._manifest_damaged),
            ("a second process in the same folder is refused", self._second),
            ("a file is replaced in one step", self._replaced),
        ]
        for i, (what, check) in enumerate(checks):
            progress("testing", i, len(checks))
            began = time.perf_counter()
            trials, problem = check()
            yield Check(what, trials, problem, time.perf_counter() - began)

    def _start(self, run: Path) -> "subprocess.Popen[str]":
        root = str(Path(__file__).parents[2])
        path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "ddpm_cli", "train", *RUN, f"run_dir={run.name}"]
        return subprocess.Popen(  # noqa: S603 (our own program)
            command, cwd=run.parent, env=environment, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )

    def _finish(self, run: Path) -> str:
        """Let the run end. Returns what went wrong."""
        process = self._start(run)
        try:
            _, err = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            return f"it hung for {PATIENCE:.0f} s"
        return "" if process.returncode == 0 else (err.strip().splitlines() or ["no message"])[-1]

    def _written(self) -> tuple[int, str]:
        began = time.perf_counter()
        problem = self._finish(self.folder / "whole")
        self.duration = time.perf_counter() - began
        return 1, problem

    def _differs(self, run: Path) -> str:
        """How the end of `run` differs from that of the undisturbed one; "" if it does not."""
        try:
            one, other = (checkpoint.find(folder) for folder in (self.folder / "whole", run))
        except CheckpointError as error:
            return str(error)
        if one.step != other.step:
            return f"it ends at step {other.step} instead of {one.step}"
        a, b = one.tensors(), other.tensors()
        different = [name for name in a if name not in b or a[name].numpy().tobytes() != b[name].numpy().tobytes()]
        return f"{len(different)} of {len(a)} tensors differ" if different or len(a) != len(b) else ""

    def _killed(self) -> tuple[int, str]:
        run = self.folder / "killed"
        for _ in range(self.kills):
            process = self._start(run)
            time.sleep(self.random.uniform(0.3, 1.0) * self.duration)
            process.kill()
            process.communicate()
        return self.kills, self._finish(run) or self._differs(run)

    def _damaged(self, name: str, damage: Callable[[Path], None], suffix: str) -> tuple[int, str]:
        run = self.folder / name
        shutil.copytree(self.folder / "whole", run)
        damage(run / "checkpoints" / f"{checkpoint.name_of(STEPS)}{suffix}")
        with without_logs():  # it would warn of the damage
            before = checkpoint.find(run).step
        if before >= STEPS:
            return 1, "the damage was not found"
        return 1, self._finish(run) or self._differs(run)

    def _tensors_damaged(self) -> tuple[int, str]:
        def flip(path: Path) -> None:
            raw = bytearray(path.read_bytes())
            raw[self.random.randrange(len(raw))] ^= 1 << self.random.randrange(8)
            path.write_bytes(raw)

        return self._damaged("flipped", flip, ".safetensors")

    def _manifest_damaged(self) -> tuple[int, str]:
        def cut(path: Path) -> None:
            path.write_bytes(path.read_bytes()[: self.random.randrange(path.stat().st_size)])

        return self._damaged("cut", cut, ".json")

    def _second(self) -> tuple[int, str]:
        """The first process holds the lock of the folder from outside, as a training does."""
        run = self.folder / "shared"
        run.mkdir()
        lock = Lock(run / ".lock")
        try:
            process = self._start(run)
            process.communicate(timeout=PATIENCE)
        finally:
            lock.release()
        expected = BusyError.code
        return 1, "" if process.returncode == expected else f"exit code {process.returncode} instead of {expected}"

    def _replaced(self) -> tuple[int, str]:
        """A reader sees the old or the new content, never none and never a part."""
        path, texts = self.folder / "file", ("a" * 100_000, "b" * 100_000)
        path.write_text(texts[0])
        for i in range(200):
            fresh = path.with_name("fresh")
            fresh.write_text(texts[i % 2])
            fresh.replace(path)
            if path.read_text() not in texts:
                return i + 1, "a reader saw a part of a file"
        return 200, ""


def run_in(place: Path, kills: int, progress: Progress) -> list[Check]:
    """The self-test in a new folder below `place`, which is removed afterwards.

    Raises:
        StorageError: it cannot be made.
    """
    folder = place / f".verify-{os.getpid()}"
    made = [parent for parent in folder.parents if not parent.exists()]
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise StorageError(
            f"run_dir: {shown(place)} cannot be written ({error.strerror}); name another disk"
        ) from error
    try:
        return list(SelfTest(folder, kills)(progress))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for parent in made:
            with suppress(OSError):  # something else is there now
                parent.rmdir()
