"""Tensors -> pixels, on one fixed scale: the same value is the same grey in every picture and every frame."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

BACKGROUND = 255
"""Between and around tiles: white."""


def to_uint8(x: Tensor) -> Tensor:
    """[-1, 1] -> 0..255 by round((x + 1) * 127.5), clipped; same shape, uint8, on the host. NaN becomes 0."""
    scaled = (x.detach().float().clamp(-1, 1) + 1) * 127.5
    return scaled.nan_to_num(0.0).round().to(torch.uint8).cpu()


def grid(images: Tensor, columns: int | None = None, pad: int = 1) -> np.ndarray:
    """(N,C,H,W) uint8 -> one picture (rows * (H + pad) + pad, columns * (W + pad) + pad, C), row by row.

    Without `columns`, the layout nearest to a square, without holes where there is one (64 -> 8x8, 10 -> 5x2).
    """
    n, channels, height, width = images.shape
    across = columns or balanced(n)
    down = math.ceil(n / across)
    picture = np.full((down * (height + pad) + pad, across * (width + pad) + pad, channels), BACKGROUND, np.uint8)
    for i, tile in enumerate(images.permute(0, 2, 3, 1).numpy()):
        top, left = pad + i // across * (height + pad), pad + i % across * (width + pad)
        picture[top : top + height, left : left + width] = tile
    return picture


def balanced(n: int) -> int:
    """Columns for n tiles: the smallest divisor from sqrt(n) up, unless that is more than twice as wide as high."""
    root = math.ceil(math.sqrt(n))
    exact = next(c for c in range(root, n + 1) if n % c == 0) if n else 1
    return exact if exact * exact <= 2.5 * n else root


def suited_scale(size: Sequence[int], wanted: int | None = None) -> int:
    """How many pixels of a picture one pixel of a tile (H, W) gets: `wanted`, or so many that it is about 64 wide."""
    return wanted if wanted is not None else max(1, round(64 / max(size)))


def enlarge(picture: np.ndarray, scale: int) -> np.ndarray:
    """(H,W,...) -> (H * scale, W * scale, ...), each pixel a sharp square."""
    return picture.repeat(scale, axis=0).repeat(scale, axis=1)


def as_rgb(picture: np.ndarray) -> np.ndarray:
    """(H,W), (H,W,1) or (H,W,3) -> (H,W,3)."""
    if picture.ndim == 2:
        picture = picture[:, :, None]
    return np.repeat(picture, 3, axis=2) if picture.shape[2] == 1 else picture
