"""A scatter plot of the latents of images, coloured by class."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from .figure import INK, quiet, write_figure

FEW = 20
"""Maximum number of classes with a legend; more classes use a continuous colour scale."""


def plot_latent(
    path: Path, points: Tensor, shares: tuple[float, float], labels: Tensor, class_names: Sequence[str]
) -> None:
    """Write a PNG of points (N,2) with labels (N,); without classes, all have the same colour.

    Args:
        shares: the fractions of the variance along the two axes.

    Raises:
        OSError: it cannot be written; nothing is left behind.
    """
    xy, y = points.cpu().numpy(), labels.cpu().numpy()
    figure = Figure(figsize=(8.2, 6), dpi=130, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    quiet(axes)
    size = float(np.clip(20_000 / max(len(xy), 1), 10, 40))
    style: dict[str, Any] = {"s": size, "alpha": 0.75, "linewidths": 0}
    if 1 < len(class_names) <= FEW:
        colours = colormaps["tab10" if len(class_names) <= 10 else "tab20"]
        for c, name in enumerate(class_names):
            axes.scatter(*xy[y == c].T, color=colours(c), label=name, **style)
        legend = axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), fontsize=9)
        for handle in legend.legend_handles:
            if handle is not None:
                handle.set(sizes=[40], alpha=1)
    else:
        style |= {"c": y, "cmap": "turbo"} if class_names else {"color": "#1f5fa8"}
        axes.scatter(*xy.T, **style)
    for name, share, set_label in (
        ("first", shares[0], axes.set_xlabel),
        ("second", shares[1], axes.set_ylabel),
    ):
        set_label(f"{name} principal component ({share:.0%} of the variance)", color=INK)
    axes.set_title(f"Latents of {len(xy):,} images", loc="left", fontsize=11, color=INK)
    axes.set_aspect("equal", adjustable="datalim")
    write_figure(path, figure)
