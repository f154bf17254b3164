"""Trains the last saved steps of a run again and compares the result bit for bit."""

import logging
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from ..build import bind
from ..errors import CheckpointError, ConfigError, Stopped
from ..files import shown
from ..progress import Progress, silent
from ..runs import checkpoint
from ..runs.bounds import check_numbers
from ..runs.checkpoint import Checkpoint
from ..runs.images import node_of
from ..runs.job import Job
from ..runs.origin import is_here
from ..signals import Interrupted
from ..training.course import repeat
from ..training.options import TrainOptions, plan_of
from ..training.run import run_session

QUIET: dict[str, Any] = {
    "max_seconds": None, "save_seconds": None, "save_every": 0, "sample_every": 0, "eval_every": 0, "features": None,
    "best_by": None, "keep_last": 2,
}  # fmt: skip
"""What a replay leaves out: none of it changes the weights."""


class _Until:
    """A `Reporter` that stops the run at a step, unless the run ends there by itself."""

    def __init__(self, first: int, last: int, progress: Progress):
        self.first, self.last, self.progress, self.total, self.reached = first, last, progress, 0, False

    def begin(self, config: Mapping[str, Any], folder: Path) -> None: ...

    @contextmanager
    def counting(self) -> Iterator[Progress]:
        yield silent

    def start(self, step: int, total: int) -> None:
        self.total = total

    def advance(self, step: int, seconds: float) -> None:
        self.progress("training the last steps again", step - self.first, self.last - self.first)
        self.reached = step == self.last
        if self.reached and step != self.total:
            signal.raise_signal(signal.SIGINT)  # as a user would: the run saves and stops

    def metrics(self, step: int, row: Mapping[str, Any]) -> None: ...

    def pictures(self, step: int, path: Path, pixels: Tensor, across: int | None) -> None: ...

    def stop(self) -> None: ...


def replay(
    earlier: Checkpoint, later: Checkpoint, folder: Path, root: str | None, trust: Sequence[str], progress: Progress
) -> list[str] | None:
    """Train from `earlier` to the step of `later`, in `folder`. Returns the names of tensors that differ in any bit.

    Returns None if it is not known how a run with a budget decided.

    Raises:
        CheckpointError: the config of `later` cannot be trained.
        ConfigError, DataError: what training raises; also if its folder of pictures is not known, see `origin`.
    """
    stored, run = later.manifest["config"], later.path.resolve().parent.parent
    try:
        check_numbers(stored, later.manifest.get("about", {}))
        here = is_here(run, later.manifest)
        config = {
            **stored,
            "run_dir": str(folder),
            "resume": str(earlier.path),
            "finetune": None,
            "logger": {},
            "trust": list(trust),
            "trainer": {**stored["trainer"], **{k: v for k, v in QUIET.items() if k in stored["trainer"]}},
            "dataset": node_of(stored, here, root),
        }
        options = TrainOptions(**bind(TrainOptions, config, trust=frozenset(trust)))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CheckpointError(f"{shown(later.path)}: its config cannot be trained ({error})") from error
    chosen, seconds = earlier.manifest.get("chosen", {}), plan_of(options, Job(config, folder)).budget_seconds
    with without_logs():  # a damaged file is said below
        if seconds is not None and not repeat(run, folder, chosen, seconds, earlier.step, later.step):
            return None
    until = _Until(earlier.step, later.step, progress)
    try:
        with without_logs(), _heard():
            run_session(options, Job(config, folder), until, _no_monitor)
    except Stopped as stopped:
        if not until.reached:
            raise Interrupted(stopped.code - 128) from None
    made = checkpoint.find(folder)
    if made.step != later.step:
        raise CheckpointError(f"{shown(later.path)}: training again ended at step {made.step} instead of {later.step}")
    return _different(later.tensors(), made.tensors())


def _different(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> list[str]:
    def same(name: str) -> bool:
        a, b = one.get(name), other.get(name)
        if a is None or b is None or a.dtype != b.dtype or a.shape != b.shape:
            return False
        return a.contiguous().numpy(force=True).tobytes() == b.contiguous().numpy(force=True).tobytes()

    return [name for name in sorted(one.keys() | other.keys()) if not same(name)]


def _no_monitor(*_: Any) -> Any:
    raise ConfigError("trainer.features: is not used here")


@contextmanager
def _heard() -> Iterator[None]:
    """SIGINT arrives inside the context, also in a background job of a script, which ignores it."""
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if ignored:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        if ignored:
            signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def without_logs() -> Iterator[None]:
    """Only errors of this program are logged inside the context."""
    logger = logging.getLogger("ddpm_cli")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
