"""A list of runs: their state, in which settings they differ, their last metrics."""

import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import ours
from ..errors import ConfigError
from ..files import shown
from ..runs.asked import RECORD, Asked
from ..runs.asked import read as read_asked
from ..runs.logs import rows_of
from ..runs.newest import followed
from ..runs.stored import config_of, newest_manifest
from ..signals import STOP
from ..text import printable, unquoted
from .settings import settings_of

DEEPEST = 5
"""Levels of folders in which runs are looked for."""
RECENT = 120
"""Seconds since the last line of a run that counts as running where the locks of a system cannot be read."""
LOCKS = Path("/proc/locks")
NOT_METRICS = ("step", "epoch", "seconds", "lr", "images_per_second", "grad_norm")


@dataclass(frozen=True)
class Listed:
    """A run.

    Args:
        name: its path, as one types it.
        state: finished, stopped, running, failed, or "no checkpoint".
        step: of the newest checkpoint.
        seconds: that it has been trained.
        metrics: the last value of each that it has logged.
        best: of its best checkpoint, such as "val_loss 0.12 at step 300".
        reason: why it failed.
    """

    name: str
    state: str
    step: int | None
    seconds: float | None
    metrics: Mapping[str, float] = field(default_factory=dict)
    best: str = ""
    reason: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    asked: Asked | None = None

    def value(self, key: str) -> str | float | None:
        """By the name of a column, a metric or a setting; None if it has none."""
        plain: dict[str, Any] = {"run": self.name, "state": self.state, "step": self.step, "seconds": self.seconds}
        return plain[key] if key in plain else self.metrics.get(key, self.setting(key))

    def setting(self, key: str) -> str | None:
        """As it was typed for the sweep, or else as it is in the config."""
        typed = self.asked.chosen.get(key) if self.asked is not None else None
        return self.settings.get(key) if typed is None else unquoted(typed)


def find(places: Sequence[str]) -> list[Listed]:
    """The runs in folders, and in the folders below them.

    Raises:
        ConfigError: there is none.
    """
    held, runs = _held(), []
    for place in places:
        folder = followed(Path(place))
        if not folder.is_dir():
            raise ConfigError(f"of: there is no folder {place}")
        runs += [_listed(run, held) for run in _runs(folder, DEEPEST)]
    if not runs:
        raise ConfigError(f"of: there are no runs in {', '.join(places)}")
    return list({run.name: run for run in runs}.values())


def _runs(folder: Path, deep: int) -> Iterator[Path]:
    if ours.is_run(folder) or (folder / RECORD).is_file():
        yield folder
        deep = min(deep, 1)  # a sweep over one more key has its runs below
    if deep:
        try:
            inner = sorted(folder.iterdir())
        except OSError:  # not for us to read
            return
        for child in inner:
            if child.is_dir() and not child.name.startswith("."):
                yield from _runs(child, 0 if child.is_symlink() else deep - 1)  # a loop of links has no end


def _listed(folder: Path, held: frozenset[int] | None) -> Listed:
    asked, manifest, rows = read_asked(folder), _manifest(folder), rows_of(folder)
    metrics: dict[str, float] = {}
    for row in rows:
        values = {printable(name): _finite(value) for name, value in row.items() if name not in NOT_METRICS}
        metrics |= {name: value for name, value in values.items() if value is not None}
    step, best = manifest.get("step"), manifest.get("best")
    text = ""
    if isinstance(best, dict) and (value := _finite(best.get("value"))) is not None:
        text = f"{best.get('by')} {value:.4g} at step {best.get('step')}"
    seconds = next((s for row in reversed(rows) if (s := _finite(row.get("seconds"))) is not None), None)
    try:
        config = config_of(folder)
    except (OSError, ValueError):
        config = asked.config if asked else {}
    settings = settings_of(config) if isinstance(config, Mapping) else {}
    state = _state(folder, asked, manifest, config, held)
    reason = printable(asked.reason) if asked and state == "failed" else ""
    return Listed(
        shown(folder), state, step if isinstance(step, int) else None, seconds, metrics, text, reason, settings, asked
    )


def _state(
    folder: Path, asked: Asked | None, manifest: Mapping[str, Any], config: Any, held: frozenset[int] | None
) -> str:
    if _is_running(folder, held):
        return "running"
    if asked and asked.code is not None and asked.code - 128 not in (0, *STOP, -128):
        return "failed"
    if not manifest:
        return "no checkpoint"
    if asked and asked.code == 0:
        return "finished"
    return "finished" if _steps_left(manifest, config) == 0 else "stopped"


def _steps_left(manifest: Mapping[str, Any], config: Any) -> int | None:
    """Steps up to the end of the plan; None if that is not known."""
    try:
        trainer, step = config["trainer"], manifest["step"]
        budget = (manifest.get("chosen") or {}).get("budget")
        if trainer.get("budget") is not None:
            return None if budget is None else max(int(budget["steps"]) - int(step), 0)
        if trainer.get("epochs") is not None:
            batches = -(-int(manifest["about"]["images"]) // int(trainer["batch_size"]))
            return max(int(trainer["epochs"] * batches) - int(step), 0)
        return max(int(trainer["steps"]) - int(step), 0)
    except (LookupError, TypeError, ValueError, AttributeError, ZeroDivisionError):
        return None


def _held() -> frozenset[int] | None:
    """The inodes of the files that are locked; None if the system does not say. Reading does not lock.

    Without their devices, which layered file systems (containers) name otherwise there than for the file.
    """
    try:
        text = LOCKS.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    return frozenset(map(int, re.findall(r" [0-9a-f]+:[0-9a-f]+:(\d+) ", text)))


def _is_running(folder: Path, held: frozenset[int] | None) -> bool:
    try:
        if held is not None:
            return (folder / ours.LOCK).stat().st_ino in held
        return time.time() - (folder / "train.log").stat().st_mtime < RECENT
    except OSError:
        return False


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        return dict(newest_manifest(folder))
    except (OSError, ValueError):
        return {}


def _finite(value: object) -> float | None:
    """A number; None for anything else, and for one that no run logs."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None
