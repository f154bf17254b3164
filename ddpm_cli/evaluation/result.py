"""The result of a metric, in the form shared by tables, eval.json and TensorBoard."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..metrics.resample import Estimate

Draw = Callable[[Path], None]
"""Writes a picture to a path."""


@dataclass(frozen=True)
class MetricValue:
    """A value with its spread.

    Args:
        real: the same metric with real images in place of the samples.
        form: how it is formatted, for example "{:.1%}".
        settings: settings of the metric; part of its protocol.
        extractor: the name of the extractor; None = that of `features`.
    """

    estimate: Estimate
    real: float | None = None
    form: str = "{:.4f}"
    settings: Mapping[str, Any] = field(default_factory=dict)
    extractor: str | None = None

    def text(self, value: float | None) -> str:
        return "" if value is None else self.form.format(value)


@dataclass(frozen=True)
class MetricResult:
    """values: by name. detail: more for eval.json. pictures: functions that write files, by name. note: for users."""

    values: Mapping[str, MetricValue] = field(default_factory=dict)
    detail: Mapping[str, Any] = field(default_factory=dict)
    pictures: Mapping[str, Draw] = field(default_factory=dict)
    note: str = ""


def table_rows(results: Mapping[str, MetricResult]) -> list[list[str]]:
    """name, value, spread, real images."""
    return [
        [name, value.text(value.estimate.value), value.text(value.estimate.spread), value.text(value.real)]
        for result in results.values()
        for name, value in result.values.items()
    ]


def records(results: Mapping[str, MetricResult], protocol: Callable[[MetricValue], dict[str, Any]]) -> dict[str, Any]:
    """The entries of eval.json, each with its whole protocol."""
    entries: dict[str, Any] = {}
    for result in results.values():
        for name, value in result.values.items():
            real = {} if value.real is None else {"real": value.real}
            entries[name] = {**value.estimate._asdict(), **real, "protocol": protocol(value)}
    return entries
