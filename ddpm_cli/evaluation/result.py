"""What a metric gives, in the form that tables, eval.json and TensorBoard share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..metrics.resample import Estimate

Draw = Callable[[Path], None]
"""Writes a picture to a path."""


@dataclass(frozen=True)
class MetricValue:
    """One value under one name.

    Args:
        real: the same of real training images against the same held-out ones; the best to expect.
        form: how it is written, as "{:.1%}".
        settings: of the metric itself; part of its protocol.
        extractor: what it looks at the images with; None = the extractor of `features`.
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
    """values: by name. detail: what else eval.json says. pictures: what writes each file. note: for its reader."""

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
    """What eval.json says of each value, with its whole protocol."""
    found: dict[str, Any] = {}
    for result in results.values():
        for name, value in result.values.items():
            real = {} if value.real is None else {"real": value.real}
            found[name] = {**value.estimate._asdict(), **real, "protocol": protocol(value)}
    return found
