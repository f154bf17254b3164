"""Measurements with their spread, for the table and for bench.json."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from ..files import shown, write_json
from ..ours import claim, complete

SPREAD = "quartiles"
"""The meaning of `low` and `high`."""
PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


@dataclass(frozen=True)
class Measurement:
    """One measured quantity.

    Args:
        name: its key in bench.json.
        what: its description in the table.
        unit: "s", "bytes", "FLOP", "FLOP/s", "images/s", "calls/s", or "share" of 1.
        values: one per window, or a single one.
        goal: the upper limit that the median should not exceed, in `unit`.
    """

    name: str
    what: str
    unit: str
    values: Sequence[float]
    goal: float | None = None

    @property
    def median(self) -> float:
        return median(self.values)

    @property
    def spread(self) -> tuple[float, float] | None:
        """First and third quartile; None for a single value."""
        if len(self.values) < 2:
            return None
        low, _, high = quantiles(self.values, n=4, method="inclusive")
        return low, high

    def facts(self) -> dict[str, Any]:
        """The entry of bench.json."""
        low, high = self.spread or (None, None)
        entry = {"median": self.median, "low": low, "high": high, "unit": self.unit, "values": list(self.values)}
        return entry if self.goal is None else entry | {"goal": self.goal}

    def row(self) -> list[str]:
        """Description, median, quartiles in the same unit, goal."""
        scale, unit = scaled(self.median, self.unit)
        spread = " to ".join(digits(v / scale) for v in self.spread) if self.spread else ""
        return [self.what, f"{digits(self.median / scale)} {unit}", spread, self._goal()]

    def _goal(self) -> str:
        if self.goal is None:
            return ""
        scale, unit = scaled(self.goal, self.unit)
        return f"at most {self.goal / scale:g} {unit}: {'met' if self.median <= self.goal else 'missed'}"


def scaled(value: float, unit: str) -> tuple[float, str]:
    """The divisor with which to show `value`, and the unit of the result."""
    if unit == "share":
        return 0.01, "%"
    if unit == "bytes":
        return 2.0**20, "MiB"
    if unit.startswith("FLOP"):
        scale, prefix = next(((s, p) for s, p in PREFIXES if abs(value) >= s), (1.0, ""))
        return scale, f"{prefix}{unit}"
    return 1.0, unit


def digits(value: float) -> str:
    """`value` with three digits; whole numbers from 100 on; millions from 1e6 on."""
    if abs(value) >= 1e6:
        return f"{value / 1e6:.3g}M"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def overhead(less: Sequence[float], more: Sequence[float]) -> list[float]:
    """How much longer `more` takes than `less`, as a fraction, window by window; both are given as rates."""
    return [a / b - 1 for a, b in zip(less, more, strict=True)]


@dataclass(frozen=True)
class Report:
    """Measurements, with how they were taken (protocol), the machine and the config."""

    what: str
    title: str
    measurements: Sequence[Measurement]
    protocol: Mapping[str, Any]
    machine: Mapping[str, Any]
    config: Mapping[str, Any]

    @property
    def columns(self) -> list[str]:
        return [self.what, "median", SPREAD, "goal"]

    @property
    def rows(self) -> list[list[str]]:
        return [m.row() for m in self.measurements]

    def write(self, folder: Path) -> str:
        """Write `folder`/bench.json. Returns a line for the user."""
        content = {
            "what": self.what,
            "title": self.title,
            "figures": {m.name: m.facts() for m in self.measurements},
            "protocol": {"spread": SPREAD} | dict(self.protocol),
            "machine": dict(self.machine),
            "config": dict(self.config),
        }
        claim(folder, ["bench.json"], "bench.json", "out")
        write_json(folder / "bench.json", content)
        complete(folder)
        return f"all values in {shown(folder)}/bench.json"
