"""What all plots have in common: quiet axes, PNG files that are complete or absent."""

import io
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...files import write_atomically

INK, GRID = "#333333", "#dddddd"


def quiet(axes: Axes) -> None:
    """A light grid, no box."""
    axes.grid(color=GRID, linewidth=0.6)
    axes.tick_params(colors=INK)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def write_figure(path: Path, figure: Figure) -> None:
    """As PNG. Raises OSError; then nothing is left behind."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    write_atomically(path, lambda p: p.write_bytes(picture.getvalue()))
