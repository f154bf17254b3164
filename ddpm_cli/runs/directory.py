"""A run directory, used by one process at a time: its files, its lock, and the signals that stop a run."""

import logging
import logging.handlers
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from filelock import Timeout
from torch import Tensor, nn

from ..errors import BusyError
from ..files import remove_parts, shown, write_json
from ..locks import Lock
from ..ours import RUN, check, check_plain, is_run
from ..progress import Progress
from ..render.files import write_png
from ..render.pixels import to_uint8
from . import checkpoint, origin, retention
from .checkpoint import Checkpoint
from .grid import GridStyle
from .loggers import LoggerChoice, Loggers, open_loggers
from .logs import ROWS, Rows, RunLog
from .newest import point_latest
from .stops import Stops
from .stored import is_config, mark_saved, repair_config, versions

log = logging.getLogger(__name__)
LATENT_MAP = "latent_map.png"
"""In `samples`, of an autoencoder."""
ADDED = ("budget.json", "tracker.json", "wandb/")
"""Files that only some runs have."""


class Reporter(Protocol):
    """Displays a run while it trains. Implemented by the terminal."""

    def begin(self, config: Mapping[str, Any], folder: Path) -> None:
        """Called when the run has locked its folder, before the data and the checkpoints are read."""
        ...

    def counting(self) -> AbstractContextManager[Progress]:
        """Shows the progress of tasks before training, such as reading the data."""
        ...

    def start(self, step: int, total: int) -> None: ...

    def advance(self, step: int, seconds: float) -> None: ...

    def metrics(self, step: int, row: Mapping[str, Any]) -> None: ...

    def pictures(self, step: int, path: Path, pixels: Tensor, across: int | None) -> None: ...

    def stop(self) -> None: ...


class State(Protocol):
    """The contents of a checkpoint."""

    @property
    def step(self) -> int: ...

    @property
    def seconds(self) -> float: ...

    @property
    def best(self) -> Mapping[str, Any]: ...

    def notes(self) -> dict[str, Any]:
        """Further entries for the manifest."""
        ...

    def tensors(self) -> Mapping[str, Tensor]: ...


class RunDirectory:
    """A context manager: entering it takes the lock, leaving it releases the lock and closes every file.

    Args:
        folder: the run directory; created if it does not exist.
        loggers: further destinations for numbers and pictures.

    Raises:
        BusyError: another process is training in `folder`.
        ConfigError: `folder` has files with the names of ours that this program did not write.
        OSError: `folder` cannot be written.
    """

    def __init__(self, folder: Path, reporter: Reporter, loggers: Mapping[str, LoggerChoice] | None = None):
        self.folder = folder
        self.reporter = reporter
        self.checkpoints = folder / "checkpoints"
        self.stops = Stops()
        self._config: Mapping[str, Any] = {}
        self._about: Mapping[str, Any] = {}
        self._grid = GridStyle()
        self._opened = False
        self._skipped = set[int]()
        self._lost = set[str]()
        self._choices = loggers or {}
        self._loggers = Loggers({})
        self._lock_path = folder / ".lock"
        self._lock: Lock | None = None
        self._handler: logging.Handler | None = None
        # keeps what is logged before train.log is opened
        self._early = logging.handlers.MemoryHandler(1000, flushLevel=logging.CRITICAL + 1)
        self._rows = Rows(folder / "metrics.jsonl")
        self._signals = ExitStack()

    def __enter__(self) -> "RunDirectory":
        if not is_run(self.folder):
            check(self.folder, RUN, "run_dir")
        check_plain(self.folder, (*RUN[1:], *ADDED), "run_dir")  # its checkpoints may lie on another disk
        self.folder.mkdir(parents=True, exist_ok=True)
        self._made_lock = not self._lock_path.exists()
        self._take_lock()
        logging.getLogger().addHandler(self._early)
        retention.clean(self.checkpoints)
        for name in (name for name in (*RUN, *ADDED) if not name.endswith("/")):
            remove_parts(self.folder, name)
        for name in ("step_*", LATENT_MAP):
            remove_parts(self.folder / "samples", name)
        return self

    def open(
        self, step: int, config: Mapping[str, Any], about: Mapping[str, Any], grid: GridStyle | None = None
    ) -> None:
        """Start writing at `step`. First drops what a killed process logged beyond its last checkpoint.

        Args:
            config: resolved; stored as config.json and in every checkpoint.
            about: facts about the data that sampling needs later ("shape", "class_names").

        Raises:
            ConfigError: a logger cannot start, and the run is new.
        """
        self._config, self._about, self._grid = dict(config), dict(about), grid or GridStyle()
        is_new = not (self.folder / "config.json").exists()
        try:
            write_json(self.folder / "config.json", self._config)  # first: it shows that all other files are ours
            self._loggers = open_loggers(self._choices, self.folder, step, config)
            self._opened = True
        except BaseException:
            # it stays, with the lock, beside other files of the run: without it they would be a stranger's
            self._opened = not is_new or any((self.folder / name).exists() for name in RUN if name != "config.json")
            if not self._opened:
                (self.folder / "config.json").unlink(missing_ok=True)
            raise
        self._rows.resume(step, self._saved(step).get(ROWS))
        self._skipped = {later for later in checkpoint.steps_in(self.checkpoints) if later > step}
        self._open_log()
        point_latest(self.folder)
        self._signals.enter_context(self.stops.watched())

    def _take_lock(self) -> None:
        try:
            self._lock = Lock(self._lock_path)
        except Timeout as error:
            raise BusyError(
                f"{self.folder}: another process is training here; wait for it to end, or set another run_dir"
            ) from error

    def _open_log(self) -> None:
        """Start train.log, with what was logged before it."""
        logging.getLogger().removeHandler(self._early)
        with self.optional("train.log"):
            self._handler = RunLog(self.folder / "train.log", encoding="utf-8", errors="backslashreplace")
            self._handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
            logging.getLogger().addHandler(self._handler)
            self._early.setTarget(self._handler)
            self._early.flush()

    def _make_again(self) -> None:
        """Make the folder or its lock again, after somebody has removed it.

        Raises:
            BusyError: something else has taken its place; nothing is written.
        """
        assert self._lock is not None
        self._lock.release()
        if is_config(self.folder, self._config):
            self._take_lock()
            log.warning("%s: was removed while training; made again", shown(self._lock_path))
            return
        if self.folder.is_dir() and any(self.folder.iterdir()):
            if self._lock_path.exists():
                self._take_lock()  # raises if another run trains there
            raise BusyError(f"{shown(self.folder)}: other files took the place of this run; move them away")
        if self._handler is not None:
            logging.getLogger().removeHandler(self._handler)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._take_lock()
        self._rows = Rows(self._rows.path)
        write_json(self.folder / "config.json", self._config)
        self._open_log()
        log.warning("%s: was removed while training; made again, without what was saved before", shown(self.folder))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.reporter.stop()
        self._signals.close()
        try:
            self._close(kind, error)
        finally:
            logging.getLogger().removeHandler(self._early)
            if self._lock is not None:
                self._lock.release()
            if not self._opened and self._made_lock:  # nothing was started: leave nothing behind
                self._lock_path.unlink(missing_ok=True)

    def _close(self, kind: type[BaseException] | None, error: BaseException | None) -> None:
        self._loggers.close()
        if self._handler is not None:
            logging.getLogger().removeHandler(self._handler)
            if error is not None:  # only to the file: the command prints it to the terminal
                message = " ".join(str(error).split()) or (kind.__name__ if kind else "")
                self._handler.handle(log.makeRecord(log.name, logging.INFO, __file__, 0, "%s", (message,), None))
            with suppress(OSError):
                self._handler.close()

    def metrics(self, step: int, row: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl, and pass it to the loggers and the terminal."""
        with self.optional("metrics.jsonl"):
            self._rows.add({"step": step, **row})
        self._loggers.scalars(step, row)
        self.reporter.metrics(step, row)

    @contextmanager
    def optional(self, what: str) -> Iterator[None]:
        """A picture or a log that cannot be written does not end the run: one warning, and training goes on."""
        try:
            yield
        except OSError as error:
            if what not in self._lost:
                self._lost.add(what)
                reason = error.strerror or " ".join(str(error).split())
                log.warning(
                    "%s: cannot be written (%s); training goes on without it", shown(self.folder / what), reason
                )

    def graph(self, module: nn.Module, shape: Sequence[int]) -> None:
        """Pass the graph of the network to the loggers."""
        self._loggers.graph(module, shape)

    def picture(self, step: int, images: Tensor) -> None:
        """Write samples/step_XXXXXXXX.png: a grid of images (N,C,H,W) in [-1, 1], with the caption if there is one."""
        pixels = to_uint8(images)
        picture = self._grid.picture(pixels)
        path = self.folder / "samples" / f"{checkpoint.name_of(step)}.png"
        with self.optional("samples"):
            path.parent.mkdir(exist_ok=True)
            write_png(path, picture)
        self._loggers.picture(step, "samples", picture)
        self.reporter.pictures(step, path, pixels, self._grid.columns)

    def save(self, state: State, keep_last: int, best_by: str | None) -> Checkpoint:
        """Write a checkpoint, then remove the old ones that `keep_last` and `best_by` do not keep.

        If the folder was removed, it is made again.
        """
        if self._lock is not None and not self._lock.in_place:
            self._make_again()
        content = {
            "seconds": state.seconds,
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            **state.notes(),
            **origin.of(self.folder),
            "about": self._about,
            ROWS: self._rows.seal(),
            "versions": versions(),
            "config": self._config,
        }
        saved = checkpoint.save(self.checkpoints, state.step, state.tensors(), content)
        mark_saved(self.folder)
        self._skipped.discard(state.step)
        self.prune(state, keep_last, best_by)
        return saved

    def prune(self, state: State, keep_last: int, best_by: str | None) -> None:
        """Remove the old checkpoints that `keep_last` and `best_by` do not keep."""
        best = state.best.get("step") if best_by else None
        retention.prune(self.checkpoints, state.step, keep_last, best, self._skipped)

    def leave_finished(self, state: State, keep_last: int, best_by: str | None) -> None:
        """For a run that has nothing left to do: remove old checkpoints, repair other files, say what was damaged."""
        self.prune(state, keep_last, best_by)
        if state.step != max(checkpoint.steps_in(self.checkpoints), default=0):
            return  # the newest one is damaged: these files know more than the one before
        saved = self._saved(state.step)
        with self.optional("metrics.jsonl"):
            self._rows.resume(state.step, saved.get(ROWS), done=True)
        with self.optional("config.json"):
            repair_config(self.folder, saved)

    def _saved(self, step: int) -> Mapping[str, Any]:
        """The manifest of a step; {} if the run has none, as it started from that step of another run."""
        return checkpoint.content_of(self.checkpoints / f"{checkpoint.name_of(step)}.json")
