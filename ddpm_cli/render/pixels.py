"""Tensors -> pixels, on one fixed scale: the same value is the same grey in every picture and every frame."""

import math

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

BACKGROUND = 255
"""Between and around tiles: white."""
EDGE = 208
"""Grey next to tiles, without which their white pixels would be one with the background."""
LEGIBLE = 80
"""Pixels that a tile should be wide, at least."""
MARGIN = 16
"""Around everything."""
GAP = 4
"""Between tiles; the same at any scale."""
WIDEST = 720
"""No picture is made wider by enlarging it, unless the user names the scale: a GIF grows with every pixel."""


def quantized(x: Tensor) -> Tensor:
    """[-1, 1] -> 0..255 by round((x + 1) * 127.5), clipped; same shape, uint8, where it is. NaN becomes 0.

    What is uint8 already stays as it is.
    """
    if x.dtype == torch.uint8:
        return x
    scaled = (x.detach().float().clamp(-1, 1) + 1) * 127.5
    return scaled.nan_to_num(0.0).round().to(torch.uint8)


def to_uint8(x: Tensor) -> Tensor:
    """`quantized`, on the host."""
    return quantized(x).cpu()


def grid(images: Tensor, columns: int | None = None, pad: int = 1, background: int = BACKGROUND) -> np.ndarray:
    """(N,C,H,W) uint8 -> one picture (rows * (H + pad) + pad, columns * (W + pad) + pad, C), row by row.

    Without `columns`, a layout near to a square with few holes (64 -> 8x8, 10 -> 5x2); never more columns than images.

    Raises:
        ValueError: columns below 1.
    """
    n, channels, height, width = images.shape
    across = layout(n, columns)
    down = math.ceil(n / across)
    picture = np.full((down * (height + pad) + pad, across * (width + pad) + pad, channels), background, np.uint8)
    for i, tile in enumerate(images.permute(0, 2, 3, 1).cpu().numpy()):
        top, left = pad + i // across * (height + pad), pad + i % across * (width + pad)
        picture[top : top + height, left : left + width] = tile
    return picture


def layout(n: int, columns: int | None = None) -> int:
    """How many columns `grid` uses for n tiles."""
    if columns is None:
        return balanced(n)
    if columns < 1:
        raise ValueError(f"columns: must be at least 1, got {columns}")
    return max(1, min(columns, n))


def balanced(n: int) -> int:
    """Columns for n tiles, at least as wide as high: weighs empty places against being long and thin."""

    def cost(columns: int) -> float:
        rows = math.ceil(n / columns)
        holes = rows * columns - n
        return (0.1 if holes else 0.0) + holes / n + 0.1 * columns / rows

    return min(range(math.ceil(math.sqrt(n)), n + 1), key=cost) if n else 1


def default_scale(height: int, width: int, wanted: int | None = None) -> int:
    """Pixels of the picture for one pixel of the model: `wanted`, or so many that a tile is legible (8 -> 10, 32 -> 3).

    Raises:
        ValueError: wanted below 1.
    """
    if wanted is None:
        return math.ceil(LEGIBLE / max(height, width))
    if wanted < 1:
        raise ValueError(f"scale: must be at least 1, got {wanted}")
    return wanted


def enlarge(picture: np.ndarray, scale: int) -> np.ndarray:
    """(H,W,...) -> (H * scale, W * scale, ...), each pixel a sharp square."""
    return picture.repeat(scale, axis=0).repeat(scale, axis=1)


def as_rgb(picture: np.ndarray) -> np.ndarray:
    """(H,W), (H,W,1) or (H,W,3) -> (H,W,3)."""
    if picture.ndim == 2:
        picture = picture[:, :, None]
    return np.repeat(picture, 3, axis=2) if picture.shape[2] == 1 else picture


def sheet(images: Tensor, columns: int | None, scale: int) -> np.ndarray:
    """(N,C,H,W) uint8 -> (H',W',C): enlarged tiles with a thin edge, nothing around the outermost."""
    sharp = images.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    framed = F.pad(sharp, (1, 1, 1, 1), value=EDGE)
    return grid(framed, columns, pad=GAP)[GAP:-GAP, GAP:-GAP]


def fitting_scale(images: Tensor, columns: int | None, scale: int | None, panels: int = 1) -> int:
    """`scale`, or the one that suits a tile unless `panels` sheets beside one another get too wide with it."""
    n, _, height, width = images.shape
    suited = default_scale(height, width, scale)
    if scale is not None:
        return suited
    return max(1, min(suited, WIDEST // (panels * layout(n, columns) * width)))


def columns_by_class(labels: Tensor | None) -> int | None:
    """How many pictures a row of the grid should have: with up to 16 classes in turn, each column is of one class."""
    classes = len(labels.unique()) if labels is not None else 0
    if labels is None or not 2 <= classes <= 16:
        return None
    return classes * max(1, round(math.sqrt(len(labels)) / classes))
