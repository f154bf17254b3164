"""A plot of the error against the number of network calls, one line per sampler."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from .figure import GRID, INK, quiet, write_figure

COLOURS = ("#1f6fb2", "#d1495b", "#2a9d8f", "#e08e1b", "#7b4fa3", "#4d4d4d", "#b5651d", "#5aa02c")
MARKS = "osD^vPX*"


def samplers_plot(
    path: Path, curves: Mapping[str, Sequence[tuple[int, float]]], exact: tuple[float, float], title: str
) -> None:
    """Write a PNG of curves: name -> (network calls, distance), both positive. exact: the range for exact points.

    Raises OSError if it cannot be written; nothing is left behind.
    """
    figure = Figure(figsize=(8.4, 5.2), dpi=140, layout="constrained")
    axes = figure.subplots()
    calls = [c for points in curves.values() for c, _ in points]
    for i, (name, points) in enumerate(curves.items()):
        x, y = [c for c, _ in points], [d for _, d in points]
        thin = i / max(len(curves) - 1, 1)  # later lines are thinner, so that coinciding ones are both visible
        axes.plot(
            x,
            y,
            color=COLOURS[i % len(COLOURS)],
            marker=MARKS[i % len(MARKS)],
            markersize=7.5 - 4 * thin,
            linewidth=3.2 - 2 * thin,
            label=name,
        )
    axes.axhspan(*exact, color=GRID, alpha=0.7, linewidth=0, zorder=0)
    axes.text(min(calls), exact[0] * 1.04, "exact points", color=INK, fontsize=9, ha="left", va="bottom")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    low, high = math.floor(math.log2(min(calls))), math.ceil(math.log2(max(calls)))
    ticks = [2**k for k in range(low, high + 1)]
    axes.set_xticks(ticks, [str(t) for t in ticks])
    axes.set_xlabel("network calls", color=INK)
    axes.set_ylabel("sliced Wasserstein distance", color=INK)
    axes.set_title(f"Samplers on an exact mixture ({title})", color=INK, fontsize=11, loc="left")
    quiet(axes)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    write_figure(path, figure)
