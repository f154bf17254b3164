"""A plot of the variational bound over time: which noise levels contribute how many bits."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from .figure import write_figure

INK, FAINT, BLUE, ORANGE = "#222222", "#d9d9d9", "#1f5fa8", "#c8501e"
MANY = 60
"""Number of points above which markers would touch, so that only the line is drawn."""
EARLY = 0.1
"""If half of the terms are before this t, the time axis is logarithmic."""


def plot_bound(
    path: Path, times: Tensor, bits: Tensor, figures: Mapping[str, float], note: str = "", sampled: bool = False
) -> None:
    """Write a PNG of the bits per dimension of each term against t, on a logarithmic axis.

    Args:
        times, bits: (K,) decreasing t of the terms, and their means; the last one is L_0.
        figures: means of `bound`, `prior`, `denoising`, `reconstruction` and, if measured, `ode`, for the heading.
        sampled: whether each term was measured on some of the images only, so that its neighbours differ by chance.
        note: how it was measured, shown below the heading.

    Raises:
        OSError: it cannot be written; nothing is left behind.
    """
    t, y = times.double().cpu().numpy(), bits.double().cpu().numpy()
    figure = Figure(figsize=(8, 5.2), dpi=150, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_yscale("log")
    if np.median(t) < EARLY:
        axes.set_xscale("log")
    positive = y[:-1] > 0  # a logarithmic axis shows only these; rounding can make a term near 0 negative
    style = (
        {"linestyle": "", "marker": ".", "markersize": 5}
        if sampled
        else {"linewidth": 1.6}
        if len(t) > MANY
        else {"linewidth": 1.2, "marker": "o", "markersize": 4}
    )
    axes.plot(t[:-1][positive], y[:-1][positive], color=BLUE, label="$L_{t-1}$", **style)
    axes.plot(t[-1:], y[-1:], "D", color=ORANGE, markersize=7, label="$L_0$, reconstruction", zorder=3)
    if figures["prior"] > 0:
        label = "$L_T$, prior"
        axes.plot([1.0], [figures["prior"]], "s", color=INK, markersize=6, label=label, zorder=3, clip_on=False)
    axes.set_xlabel("t  (0 = image, 1 = noise)", color=INK)
    axes.set_ylabel("bits/dim of each term", color=INK)
    axes.grid(True, which="major", color=FAINT, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper right")
    axes.set_title("\n".join(filter(None, (_heading(figures), note))), loc="left", fontsize=11, color=INK)
    write_figure(path, figure)


def _heading(figures: Mapping[str, float]) -> str:
    parts = " + ".join(f"{figures[name]:.3f} ({name})" for name in ("prior", "denoising", "reconstruction"))
    lines = f"Variational bound {figures['bound']:.3f} bits/dim\n= {parts}"
    return lines + (f"\nProbability-flow ODE {figures['ode']:.3f} bits/dim" if "ode" in figures else "")
