"""Tensors -> pixels on one fixed scale: a value has the same grey in every picture and every frame."""

import math

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

BACKGROUND = 255
"""White, between and around tiles."""
EDGE = 208
"""Grey around each tile, which separates white pixels from the background."""
LEGIBLE = 80
"""Minimum size of a tile, in pixels."""
MARGIN = 16
"""Pixels around everything."""
GAP = 4
"""Pixels between tiles, at any scale."""
WIDEST = 720
"""Pictures are not enlarged beyond this width unless the user sets the scale, because large GIFs are large files."""


def quantized(x: Tensor) -> Tensor:
    """[-1, 1] -> 0..255 by round((x + 1) * 127.5), clipped; uint8 of the same shape, on the same device. NaN becomes 0.

    A uint8 tensor is returned unchanged.
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

    Without `columns`, the layout is nearly square with few holes (64 -> 8x8, 10 -> 5x2) and at most N columns.

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
    """The number of columns that `grid` uses for n tiles."""
    if columns is None:
        return balanced(n)
    if columns < 1:
        raise ValueError(f"columns: must be at least 1, got {columns}")
    return max(1, min(columns, n))


def balanced(n: int) -> int:
    """A number of columns for n tiles, at least as wide as high, with few empty cells and not too long and thin."""

    def cost(columns: int) -> float:
        rows = math.ceil(n / columns)
        holes = rows * columns - n
        return (0.1 if holes else 0.0) + holes / n + 0.1 * columns / rows

    return min(range(math.ceil(math.sqrt(n)), n + 1), key=cost) if n else 1


def default_scale(height: int, width: int, wanted: int | None = None) -> int:
    """Size of one pixel of the model in pixels: `wanted`, or large enough for a legible tile (8 -> 10, 32 -> 3).

    Raises:
        ValueError: `wanted` is below 1.
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
    """(N,C,H,W) uint8 -> (H',W',C): enlarged tiles with thin edges, without an outer margin."""
    sharp = images.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    framed = F.pad(sharp, (1, 1, 1, 1), value=EDGE)
    return grid(framed, columns, pad=GAP)[GAP:-GAP, GAP:-GAP]


def fitting_scale(images: Tensor, columns: int | None, scale: int | None, panels: int = 1) -> int:
    """`scale`, or one that makes tiles legible and `panels` sheets side by side no wider than `WIDEST`."""
    n, _, height, width = images.shape
    preferred = default_scale(height, width, scale)
    if scale is not None:
        return preferred
    return max(1, min(preferred, WIDEST // (panels * layout(n, columns) * width)))


def columns_by_class(labels: Tensor | None) -> int | None:
    """The number of columns for images whose labels cycle through 2 to 16 classes, so that each column is one class."""
    classes = len(labels.unique()) if labels is not None else 0
    if labels is None or not 2 <= classes <= 16:
        return None
    n = len(labels)

    def cost(columns: int) -> float:
        rows = math.ceil(n / columns)
        return 2 * (rows * columns - n) / n + abs(math.log(columns / rows))

    return min(range(classes, max(classes, math.isqrt(4 * n)) + 1, classes), key=cost)
