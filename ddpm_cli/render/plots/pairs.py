"""A plot of images above their nearest training images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure
from torch import Tensor

from .figure import INK, show_tile, write_figure


class Pairs(NamedTuple):
    """images and nearest (N,C,H,W) uint8, and their N distances in grey levels."""

    images: Tensor
    nearest: Tensor
    distances: Sequence[float]


def pairs_plot(path: Path, blocks: Mapping[str, Pairs]) -> None:
    """Write a PNG with two rows per block: its name at the left, distances above each pair.

    Raises OSError if it cannot be written; nothing is left behind.
    """
    across = max(len(pairs.images) for pairs in blocks.values())
    figure = Figure(figsize=(1.6 + 0.95 * across, 2.3 * len(blocks) + 0.5), dpi=140)
    figure.suptitle("The images closest to a training image (RMS difference in grey levels, 0 to 255)",
                    x=0.02, ha="left", fontsize=11, color=INK)  # fmt: skip
    parts = figure.subfigures(len(blocks), 1, squeeze=False)[:, 0]
    figure.subplots_adjust(top=0.9)
    for part, (name, pairs) in zip(parts, blocks.items(), strict=True):
        grid = part.subplots(2, across, squeeze=False)
        part.subplots_adjust(
            left=1.35 / figure.get_figwidth(), right=0.99, top=0.8, bottom=0.03, wspace=0.08, hspace=0.06
        )
        for row, label in enumerate((name, "nearest\ntraining image")):
            grid[row, 0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=10, color=INK, labelpad=8)
        for i in range(across):
            if i >= len(pairs.images):
                grid[0, i].axis("off"), grid[1, i].axis("off")
                continue
            show_tile(grid[0, i], pairs.images[i])
            show_tile(grid[1, i], pairs.nearest[i])
            grid[0, i].set_title(f"{pairs.distances[i]:.1f}", fontsize=10, color=INK, pad=3)
    write_figure(path, figure)
