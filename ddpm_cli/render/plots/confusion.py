"""A plot of the confusion matrix of a classifier."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from torch import Tensor

from .figure import INK, write_figure

MANY = 25
"""Number of classes above which the counts would not be legible."""


def confusion_plot(path: Path, matrix: Tensor, names: Sequence[str]) -> None:
    """Write a PNG of (K,K) counts, a row per true class; the shade is the fraction of the row.

    Raises OSError if it cannot be written; nothing is left behind.
    """
    k = len(names)
    fractions = matrix.double() / matrix.sum(1, keepdim=True).clamp_min(1)
    side = min(2.4 + 0.55 * k, 14)
    figure = Figure(figsize=(side + 0.6, side), dpi=130, layout="constrained")
    axes = figure.subplots()
    axes.imshow(fractions.sqrt().numpy(), cmap="Blues", vmin=0, vmax=1)  # sqrt: rare mistakes stay visible
    if k <= MANY:
        for i in range(k):
            for j in range(k):
                if count := int(matrix[i, j]):
                    dark = float(fractions[i, j]) > 0.3
                    axes.text(j, i, str(count), ha="center", va="center", fontsize=9, color="white" if dark else INK)
    ticks, size = range(k), 10 if k <= MANY else 6
    upright = max(map(len, names)) <= 3
    axes.set_xticks(ticks, names, rotation=0 if upright else 45, ha="center" if upright else "right", fontsize=size)
    axes.set_yticks(ticks, names, fontsize=size)
    axes.tick_params(colors=INK, length=0)
    axes.set_xlabel("predicted class", color=INK)
    axes.set_ylabel("true class", color=INK)
    total, correct = int(matrix.sum()), int(matrix.diagonal().sum())
    title = f"{correct:,} of {total:,} correct ({correct / max(total, 1):.2%})"
    axes.set_title(title, loc="left", fontsize=11, color=INK)
    for spine in axes.spines.values():
        spine.set_visible(False)
    write_figure(path, figure)
