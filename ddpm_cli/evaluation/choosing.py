"""Which runs are listed, in which order, as a table or as CSV."""

import csv
import io
import re
from collections.abc import Sequence

from ..errors import ConfigError
from ..progress import duration, plural
from .listing import Listed
from .settings import differing

SHOWN = 5
"""Metrics that the table shows; leaderboard.csv has all."""
CONDITION = re.compile(r"([^=<>!]+)(!=|<=|>=|=|<|>)(.*)", re.DOTALL)


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
        known = sorted({name for run in runs for name in run.metrics} | set(_keys(runs)))
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
    keys, metrics, parent = _keys(runs), _metrics(runs)[:SHOWN], _parent(runs)
    columns = ["run", "state", *keys, "step", "time", *metrics, *(["best"] if any(run.best for run in runs) else [])]
    rows = []
    for run in runs:
        numbers = [f"{run.metrics[name]:.4g}" if name in run.metrics else "" for name in metrics]
        time_ = "" if run.seconds is None else duration(run.seconds)
        step = "" if run.step is None else f"{run.step:,}"
        name = run.name[len(parent) + 1 :] if parent else run.name
        row = [name, run.state, *(_short(run.setting(key) or "") for key in keys), step, time_, *numbers]
        rows.append([*row, run.best][: len(columns)])
    return columns, rows


def _keys(runs: Sequence[Listed]) -> list[str]:
    """What tells the runs from each other: of sweeps what they were over, else the settings that differ."""
    if all(run.asked is not None and run.asked.swept for run in runs):
        swept = dict.fromkeys(key for run in runs if run.asked for key in sorted(run.asked.swept))
        return [key for key in swept if len({run.setting(key) for run in runs}) > 1]
    return differing([run.settings for run in runs])


def _parent(runs: Sequence[Listed]) -> str:
    """The folder that all runs are in; "" if there is none."""
    parents = {run.name.rpartition("/")[0] for run in runs}
    return parents.pop() if len(parents) == 1 and len(runs) > 1 else ""


def title(runs: Sequence[Listed]) -> str:
    """Of the table."""
    return f"runs in {_parent(runs)}" if _parent(runs) else "runs"


def _short(text: str) -> str:
    """A number with at most six digits: optuna's have sixteen."""
    try:
        return f"{float(text):.6g}" if re.fullmatch(r"-?\d*\.\d{7,}(e-?\d+)?", text) else text
    except ValueError:
        return text


def best_first(runs: Sequence[Listed]) -> list[Listed]:
    """In the order of the metric that the sweep is about, if all have the same one, the lowest first."""
    metrics = {run.asked.config.get("sweep_metric") if run.asked else None for run in runs}
    metric = metrics.pop() if len(metrics) == 1 else None
    return chosen(runs, [], str(metric)) if metric and any(metric in run.metrics for run in runs) else list(runs)


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
