"""A run directory, owned by one process at a time: its files, its lock and its interruptions."""

import json
import logging
import logging.handlers
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Protocol

from filelock import FileLock, Timeout
from torch import Tensor, nn

from ..errors import BusyError, StorageError
from ..files import write_json
from ..render.caption import titled
from ..render.files import write_png
from ..render.pixels import EDGE, enlarge, grid, suited_scale, to_uint8
from . import checkpoint
from .checkpoint import Checkpoint
from .loggers import add_graph

log = logging.getLogger(__name__)


class Reporter(Protocol):
    """Where a run is seen while it trains. The terminal implements it."""

    def start(self, step: int, total: int) -> None: ...

    def advance(self, step: int, seconds: float) -> None: ...

    def metrics(self, step: int, row: Mapping[str, Any]) -> None: ...

    def pictures(self, step: int, path: Path, pixels: Tensor, across: int | None) -> None: ...

    def stop(self) -> None: ...


class State(Protocol):
    """What a checkpoint is made of."""

    @property
    def step(self) -> int: ...

    @property
    def seconds(self) -> float: ...

    @property
    def best(self) -> Mapping[str, Any]: ...

    def notes(self) -> dict[str, Any]:
        """What its manifest says besides."""
        ...

    def tensors(self) -> Mapping[str, Tensor]: ...


class Run:
    """Use as a context: entering takes the lock, leaving gives it back and closes every file.

    Args:
        folder: the run directory; made when it is not there.
        config: resolved, stored as config.json and in every checkpoint.
        tensorboard: also write scalars and grids for TensorBoard.

    Raises:
        BusyError: another process trains in `folder`.
        OSError: `folder` cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, Any],
        reporter: Reporter,
        tensorboard: bool = False,
    ):
        self.folder = folder
        self.config = config
        self.reporter = reporter
        self.about: dict[str, Any] = {}
        self.columns: int | None = None  # of the sample grids; None = near a square
        self.caption: str | None = None  # above them
        self.checkpoints = folder / "checkpoints"
        self.stop_signal: int | None = None
        self._opened = False
        self._tensorboard = tensorboard
        self._writer: Any = None
        self._lock_path = folder / ".lock"
        self._lock = FileLock(self._lock_path, timeout=0)
        self._handler: logging.Handler | None = None
        # what is logged before there is a train.log
        self._early = logging.handlers.MemoryHandler(1000, flushLevel=logging.CRITICAL + 1)
        self._old_signals: dict[int, Any] = {}

    def __enter__(self) -> "Run":
        self.folder.mkdir(parents=True, exist_ok=True)
        self._made_lock = not self._lock_path.exists()
        try:
            self._lock.acquire()
        except Timeout as error:
            raise BusyError(
                f"{self.folder}: another process trains here; wait for it, or set another run_dir"
            ) from error
        logging.getLogger().addHandler(self._early)
        checkpoint.clean(self.checkpoints)
        for leftover in self.folder.glob(".*.part"):
            leftover.unlink()  # of a process that was killed while it wrote
        return self

    def open(self, step: int, about: Mapping[str, Any]) -> None:
        """Begin to write, at `step`: what a killed process logged beyond its last checkpoint is dropped first.

        Args:
            about: facts about the data that sampling needs later ("shape", "class_names").
        """
        self.about = dict(about)
        self._opened = True
        write_json(self.folder / "config.json", self.config)
        _truncate(self.folder / "metrics.jsonl", step)
        self._handler = _RunLog(self.folder / "train.log", encoding="utf-8")
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logging.getLogger().removeHandler(self._early)
        logging.getLogger().addHandler(self._handler)
        self._early.setTarget(self._handler)
        self._early.flush()
        if self._tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.folder / "tensorboard"), purge_step=step + 1 if step else None)
        _point_latest(self.folder)
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._old_signals[number] = signal.signal(number, self._on_signal)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.reporter.stop()
        for number, old in self._old_signals.items():
            signal.signal(number, old)
        try:
            self._close(kind, error)
        finally:
            logging.getLogger().removeHandler(self._early)
            self._lock.release()
            if not self._opened and self._made_lock:  # nothing was begun: leave nothing behind
                self._lock_path.unlink(missing_ok=True)

    def _close(self, kind: type[BaseException] | None, error: BaseException | None) -> None:
        if self._writer is not None:
            self._writer.close()
        if self._handler is not None:
            logging.getLogger().removeHandler(self._handler)
            if error is not None:  # into the file alone: the terminal is told by whoever catches it
                said = " ".join(str(error).split()) or (kind.__name__ if kind else "")
                with suppress(StorageError):  # what ended the run is what the user is told
                    self._handler.handle(log.makeRecord(log.name, logging.INFO, __file__, 0, "%s", (said,), None))
            with suppress(OSError):
                self._handler.close()

    def metrics(self, step: int, row: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl, and the same to TensorBoard and the terminal."""
        line = json.dumps({"step": step, **row})
        with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        if self._writer is not None:
            for name, value in row.items():
                self._writer.add_scalar(name, value, step)
        self.reporter.metrics(step, row)

    def graph(self, module: nn.Module, shape: Sequence[int]) -> None:
        """The network's graph, for TensorBoard alone."""
        if self._writer is not None:
            add_graph(self._writer, module, shape)

    def picture(self, step: int, images: Tensor) -> None:
        """samples/step_XXXXXXXX.png: a grid of (N,C,H,W) in [-1, 1], under the caption if there is one."""
        pixels = to_uint8(images)
        picture = enlarge(grid(pixels, self.columns, background=EDGE), suited_scale(*pixels.shape[-2:]))
        if self.caption:
            picture = titled(picture, self.caption)
        path = self.folder / "samples" / f"{checkpoint.name_of(step)}.png"
        path.parent.mkdir(exist_ok=True)
        write_png(path, picture)
        if self._writer is not None:
            self._writer.add_image("samples", picture, step, dataformats="HWC")
        self.reporter.pictures(step, path, pixels, self.columns)

    def save(self, state: State, keep_last: int, best_by: str | None) -> Checkpoint:
        """Write a checkpoint, then remove the ones that `keep_last` and `best_by` do not keep."""
        manifest = {
            "seconds": state.seconds,
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            **state.notes(),
            "about": self.about,
            "versions": _versions(),
            "config": self.config,
        }
        saved = checkpoint.save(self.checkpoints, state.step, state.tensors(), manifest)
        checkpoint.prune(self.checkpoints, state.step, keep_last, state.best.get("step") if best_by else None)
        return saved

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """The first asks the loop to save and stop, the second stops at once."""
        if self.stop_signal is not None:
            raise KeyboardInterrupt
        self.stop_signal = number
        name = signal.Signals(number).name
        log.warning("%s: stopping where the same command can go on; once more stops at once", name)


class _RunLog(logging.FileHandler):
    """train.log. One that cannot be written stops the run with one line, where logging would print a traceback."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        reason = getattr(sys.exc_info()[1], "strerror", None) or "it cannot be written"
        raise StorageError(f"{self.baseFilename}: {reason}; free some space, then run the same command again")


def _truncate(path: Path, step: int) -> None:
    """Drop lines beyond `step` and what is no such line, as a last one that was cut short."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int) and row["step"] <= step:
            kept.append(line)
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    temporary.replace(path)


def _point_latest(folder: Path) -> None:
    """outputs/latest -> the newest run. A convenience: where links cannot be made there is none."""
    link = Path("outputs") / "latest"
    try:
        link.parent.mkdir(exist_ok=True)
        fresh = link.with_name(f".latest.{os.getpid()}")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(os.path.relpath(folder.resolve(), link.parent.resolve()))
        fresh.replace(link)
    except OSError as error:
        log.info("outputs/latest was not updated (%s)", error.strerror)


def _versions() -> dict[str, str]:
    found = {}
    for package in ("ddpm-cli", "torch", "torchvision", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
