"""Tiles side by side, as the animations and the strip show them."""

import numpy as np
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from .pixels import EDGE, grid, layout, suited_scale

MARGIN = 16
"""Around everything."""
GAP = 4
"""Between tiles; the same at any scale."""
WIDEST = 720
"""No picture is made wider by enlarging it, unless the user names the scale: a GIF grows with every pixel."""


def sheet(images: Tensor, columns: int | None, scale: int) -> np.ndarray:
    """(N,C,H,W) uint8 -> (H',W',C): enlarged tiles with a thin edge, nothing around the outermost."""
    sharp = images.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    framed = F.pad(sharp, (1, 1, 1, 1), value=EDGE)
    return grid(framed, columns, pad=GAP)[GAP:-GAP, GAP:-GAP]


def fitting_scale(images: Tensor, columns: int | None, scale: int | None, panels: int = 1) -> int:
    """`scale`, or the one that suits a tile unless `panels` sheets beside one another get too wide with it."""
    n, _, height, width = images.shape
    suited = suited_scale(height, width, scale)
    if scale is not None:
        return suited
    return max(1, min(suited, WIDEST // (panels * layout(n, columns) * width)))
