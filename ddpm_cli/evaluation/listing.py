"""A list of runs: their state, in which settings they differ, their last metrics."""

import csv
import io
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import ours
from ..errors import ConfigError
from ..files import read_regular, shown
from ..progress import duration, plural
from ..runs.asked import RECORD, Asked
from ..runs.asked import read as read_asked
from ..runs.logs import row_of
from ..runs.newest import followed
from ..runs.stored import config_of, newest_manifest
from ..signals import STOP
from .settings import differing, settings_of

DEEPEST = 5
"""Levels of folders in which runs are looked for."""
RECENT = 120
"""Seconds since the last line of a run that counts as running where the locks of a system cannot be read."""
LOCKS = Path("/proc/locks")
NOT_METRICS = ("step", "epoch", "seconds", "lr", "images_per_second", "grad_norm")
SHOWN = 5
"""Metrics that the table shows; leaderboard.csv has all."""
CONDITION = re.compile(r"([^=<>!]+)(!=|<=|>=|=|<|>)(.*)", re.DOTALL)


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

    def value(self, key: str) -> str | float | None:
        """By the name of a column, a metric or a setting; None if it has none."""
        plain: dict[str, Any] = {"run": self.name, "state": self.state, "step": self.step, "seconds": self.seconds}
        return plain[key] if key in plain else self.metrics.get(key, self.settings.get(key))


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
    elif deep:
        try:
            inner = sorted(folder.iterdir())
        except OSError:  # not for us to read
            return
        for child in inner:
            if child.is_dir() and not child.is_symlink() and not child.name.startswith("."):
                yield from _runs(child, deep - 1)


def _listed(folder: Path, held: frozenset[tuple[int, int]] | None) -> Listed:
    asked, manifest, rows = read_asked(folder), _manifest(folder), _rows(folder)
    metrics: dict[str, float] = {}
    for row in rows:
        metrics |= {k: v for k, v in row.items() if k not in NOT_METRICS and isinstance(v, int | float)}
    step, best = manifest.get("step"), manifest.get("best")
    text = ""
    if isinstance(best, dict) and isinstance(best.get("value"), float | int):
        text = f"{best.get('by')} {best['value']:.4g} at step {best.get('step')}"
    seconds = next((row["seconds"] for row in reversed(rows) if isinstance(row.get("seconds"), float | int)), None)
    try:
        config = config_of(folder)
    except (OSError, ValueError):
        config = asked.config if asked else {}
    settings = settings_of(config) if isinstance(config, Mapping) else {}
    state = _state(folder, asked, manifest, config, held)
    reason = asked.reason if asked and state == "failed" else ""
    return Listed(
        shown(folder), state, step if isinstance(step, int) else None, seconds, metrics, text, reason, settings
    )


def _state(
    folder: Path, asked: Asked | None, manifest: Mapping[str, Any], config: Any, held: frozenset[tuple[int, int]] | None
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


def _held() -> frozenset[tuple[int, int]] | None:
    """Device and inode of the files that are locked; None if the system does not say. Reading does not lock."""
    try:
        text = LOCKS.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    found = re.findall(r" ([0-9a-f]+):([0-9a-f]+):(\d+) ", text)
    return frozenset((os.makedev(int(major, 16), int(minor, 16)), int(inode)) for major, minor, inode in found)


def _is_running(folder: Path, held: frozenset[tuple[int, int]] | None) -> bool:
    try:
        if held is not None:
            status = (folder / ours.LOCK).stat()
            return (status.st_dev, status.st_ino) in held
        return time.time() - (folder / "train.log").stat().st_mtime < RECENT
    except OSError:
        return False


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        return dict(newest_manifest(folder))
    except (OSError, ValueError):
        return {}


def _rows(folder: Path) -> list[dict[str, Any]]:
    try:
        lines = read_regular(folder / "metrics.jsonl").splitlines()
    except (OSError, ValueError):
        return []
    return [row for line in lines if (row := row_of(line)) is not None]


def chosen(runs: Sequence[Listed], where: Sequence[str], sort: str | None) -> list[Listed]:
    """The runs that fulfil all conditions such as "state=failed" or "val_loss<0.1", in the order of a column.

    Args:
        sort: a column, a metric or a setting; "-" before it = the largest first. Runs without it come last.

    Raises:
        ConfigError: a condition that is none, or a key that no run has.
    """
    kept = list(runs)
    for condition in where:
        match = CONDITION.fullmatch(condition)
        if match is None:
            raise ConfigError(
                f"where: {condition} is no condition; write KEY=VALUE, KEY!=VALUE, KEY<VALUE or KEY>VALUE"
            )
        key, sign, value = (part.strip() for part in match.groups())
        _check_key(key, runs, "where")
        kept = [run for run in kept if _fulfils(run.value(key), sign, value)]
    if sort is not None:
        key, down = sort.removeprefix("-"), sort.startswith("-")
        _check_key(key, runs, "sort")
        with_key = [run for run in kept if run.value(key) is not None]
        with_key.sort(key=lambda run: _order(run.value(key)), reverse=down)
        kept = [*with_key, *(run for run in kept if run.value(key) is None)]
    return kept


def _check_key(key: str, runs: Sequence[Listed], option: str) -> None:
    if all(run.value(key) is None for run in runs):
        known = sorted({name for run in runs for name in run.metrics} | set(differing([run.settings for run in runs])))
        raise ConfigError(f"{option}: no run has {key}; use run, state, step, seconds, {', '.join(known)}")


def _number(value: object) -> float | None:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None


def _order(value: object) -> tuple[int, float, str]:
    number = _number(value)
    return (1, 0.0, str(value)) if number is None else (0, number, "")


def _fulfils(have: object, sign: str, want: str) -> bool:
    if have is None:
        return sign == "!="
    a, b = _number(have), _number(want)
    if sign in ("=", "!="):
        equal = a == b if a is not None and b is not None else str(have) == want
        return equal == (sign == "=")
    if a is None or b is None:
        return False
    return {"<": a < b, ">": a > b, "<=": a <= b, ">=": a >= b}[sign]


def table(runs: Sequence[Listed]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows: where a run lies, its state, what tells it from the others, how far it is, its metrics."""
    keys, metrics = differing([run.settings for run in runs]), _metrics(runs)[:SHOWN]
    columns = ["run", "state", *keys, "step", "time", *metrics, *(["best"] if any(run.best for run in runs) else [])]
    rows = []
    for run in runs:
        numbers = [f"{run.metrics[name]:.4g}" if name in run.metrics else "" for name in metrics]
        time_ = "" if run.seconds is None else duration(run.seconds)
        step = "" if run.step is None else f"{run.step:,}"
        row = [run.name, run.state, *(run.settings.get(key, "") for key in keys), step, time_, *numbers]
        rows.append([*row, run.best][: len(columns)])
    return columns, rows


def _metrics(runs: Sequence[Listed]) -> list[str]:
    """The names of all metrics, those that most runs have first."""
    names = dict.fromkeys(name for run in runs for name in run.metrics)
    return sorted(names, key=lambda name: -sum(name in run.metrics for run in runs))


def leaderboard(runs: Sequence[Listed]) -> str:
    """The list as CSV, with every metric, and every setting in which the runs differ."""
    known = [run.settings for run in runs if run.settings]
    keys = [
        key for key in dict.fromkeys(k for settings in known for k in settings) if len({s.get(key) for s in known}) > 1
    ]
    metrics = _metrics(runs)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["run", "state", "step", "seconds", *keys, *metrics, "best", "reason"])
    for run in runs:
        cells = [run.settings.get(key, "") for key in keys] + [run.metrics.get(name, "") for name in metrics]
        writer.writerow([run.name, run.state, run.step, run.seconds, *cells, run.best, run.reason])
    return text.getvalue()


def counted(runs: Sequence[Listed]) -> str:
    """How many runs are in each state: "4 runs: 3 finished, 1 failed"."""
    states = [run.state for run in runs]
    parts = (f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    return f"{plural(len(runs), 'run')}: {', '.join(parts)}"
