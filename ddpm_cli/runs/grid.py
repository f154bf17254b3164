"""The grids of samples that a run draws while it trains."""

from typing import NamedTuple

import numpy as np
from torch import Tensor

from ..render.caption import titled
from ..render.heading import headed
from ..render.pixels import EDGE, default_scale, enlarge, grid, layout


class GridStyle(NamedTuple):
    """The layout of the sample grids of a run.

    columns: None = nearly square; caption: a line above the grid; classes: of each image, see `headings`.
    """

    columns: int | None = None
    caption: str | None = None
    classes: tuple[str, ...] | None = None

    def picture(self, pixels: Tensor) -> np.ndarray:
        """(H,W,C) uint8 of images (N,C,H,W) uint8."""
        scale, columns = default_scale(*pixels.shape[-2:]), layout(len(pixels), self.columns)
        drawn = headed(enlarge(grid(pixels, columns, background=EDGE), scale), self.classes, columns, scale)
        return titled(drawn, self.caption) if self.caption else drawn
