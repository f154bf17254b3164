"""What a metric found, in the form that tables, eval.json and TensorBoard share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..metrics.resample import Estimate

Paint = Callable[[Path], None]


@dataclass(frozen=True)
class Row:
    """One figure under one name.

    Args:
        real: the same figure of real training images against the same held-out ones: what to hope for.
        form: how it is written, as "{:.1%}".
        settings: of the figure itself; part of its protocol.
        eyes: what it sees the images with; None = the extractor's features.
    """

    estimate: Estimate
    real: float | None = None
    form: str = "{:.4f}"
    settings: Mapping[str, Any] = field(default_factory=dict)
    eyes: str | None = None

    def text(self, value: float | None) -> str:
        return "" if value is None else self.form.format(value)


@dataclass(frozen=True)
class Finding:
    """rows: figures by name. detail: what else eval.json says. pictures: what writes each file. note: to its reader."""

    rows: Mapping[str, Row] = field(default_factory=dict)
    detail: Mapping[str, Any] = field(default_factory=dict)
    pictures: Mapping[str, Paint] = field(default_factory=dict)
    note: str = ""


def table_rows(findings: Mapping[str, Finding]) -> list[list[str]]:
    """name, value, spread, real images."""
    return [
        [name, row.text(row.estimate.value), row.text(row.estimate.spread), row.text(row.real)]
        for finding in findings.values()
        for name, row in finding.rows.items()
    ]


def records(findings: Mapping[str, Finding], protocol: Callable[[Row], dict[str, Any]]) -> dict[str, Any]:
    """What eval.json says of each figure, with its whole protocol."""
    found: dict[str, Any] = {}
    for finding in findings.values():
        for name, row in finding.rows.items():
            real = {} if row.real is None else {"real": row.real}
            found[name] = {**row.estimate._asdict(), **real, "protocol": protocol(row)}
    return found
