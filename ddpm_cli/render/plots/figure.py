"""Helpers for all plots: plain axes, image tiles, PNG files that are complete or absent."""

import io
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ...files import write_atomically

INK, GRID, EDGE = "#333333", "#dddddd", "#bbbbbb"


def quiet(axes: Axes) -> None:
    """Style the axes with a light grid and no box."""
    axes.grid(color=GRID, linewidth=0.6)
    axes.tick_params(colors=INK)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def write_figure(path: Path, figure: Figure) -> None:
    """Write a PNG. Raises OSError if it cannot be written; nothing is left behind."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    write_atomically(path, lambda p: p.write_bytes(picture.getvalue()))


def show_tile(axes: Axes, image: Tensor) -> None:
    """Show (C,H,W) uint8 with sharp pixels, a thin edge and no ticks."""
    picture = image.permute(1, 2, 0).numpy()
    if picture.shape[2] == 1:
        axes.imshow(picture[:, :, 0], cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    else:
        axes.imshow(picture, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(EDGE)
