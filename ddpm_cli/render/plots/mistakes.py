"""A plot of the images that a classifier misclassifies with the highest confidence."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure
from torch import Tensor

from .figure import INK, show_tile, write_figure

ACROSS = 6
RED, GREEN = "#b02a37", "#1f7a3d"


class Mistake(NamedTuple):
    """The true class and the predicted one (`answer`), and the probability that the classifier gives to each."""

    right: str
    chance: float
    answer: str
    confidence: float


def mistakes_plot(path: Path, pixels: Tensor, mistakes: Sequence[Mistake], wrong: int, total: int) -> None:
    """Write a PNG of pixels (N,C,H,W) uint8, one for each mistake.

    Raises OSError if it cannot be written; nothing is left behind.

    Args:
        wrong, total: the number of all mistakes and of all images.
    """
    across = min(ACROSS, max(len(mistakes), 4))
    down = math.ceil(len(mistakes) / across)
    figure = Figure(figsize=(1.75 * across, 2.15 * down + 0.7), dpi=130, layout="constrained")
    shown = f", the worst {len(mistakes)} shown" if wrong > len(mistakes) else ""
    figure.suptitle(f"{wrong:,} of {total:,} misclassified{shown}", x=0.01, ha="left", fontsize=12, color=INK)
    grid = figure.subplots(down, across, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, image, mistake in zip(grid.flat, pixels, mistakes, strict=False):
        axes.axis("on")
        show_tile(axes, image)
        axes.set_title(_label(mistake.answer, mistake.confidence), fontsize=9.5, color=RED, pad=4)
        axes.set_xlabel(_label(mistake.right, mistake.chance), fontsize=9.5, color=GREEN, labelpad=4)
    figure.supxlabel(
        "above: predicted class, below: true class, each with its probability", fontsize=9, color=INK, x=0.01, ha="left"
    )
    write_figure(path, figure)


def _label(name: str, chance: float) -> str:
    share = f"{chance:.1%}" if 0.0005 <= chance < 0.9995 else "<0.1%" if chance < 0.5 else ">99.9%"
    return f"{name if len(name) <= 14 else name[:13] + '.'} {share}"
