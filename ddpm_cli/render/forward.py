"""Real images dissolving into noise: x_t = alpha_t x_0 + sigma_t eps, one eps for each image, so nothing flickers."""

import numpy as np
import torch
from torch import Tensor

from . import caption
from .denoise import MARGIN, AlphaSigma, evenly_visible
from .pixels import enlarge, grid, suited_scale, to_uint8

SHARES = (0, 25, 50, 75, 100)
"""Per cent of the way, in the strip."""


def forward_frames(
    images: Tensor,
    schedule: AlphaSigma,
    count: int,
    seed: int,
    total_steps: int,
    columns: int | None = None,
    scale: int | None = None,
) -> list[np.ndarray]:
    """At most `count` pictures (H,W,C) uint8 from t = 0 to 1, spaced so that each differs from the last about equally.

    Args:
        images: (N,C,H,W) in [-1, 1].
        seed: of the noise.
        total_steps: T, for the caption.
    """
    eps = _noise(images, seed)
    times = torch.arange(total_steps, -1, -1, dtype=torch.float64) / total_steps
    chosen = times[evenly_visible(times, schedule, count)].flip(0)
    return [_picture(_diffuse(images, eps, t, schedule), float(t), total_steps, columns, scale) for t in chosen]


def forward_strip(images: Tensor, schedule: AlphaSigma, seed: int, scale: int | None = None) -> np.ndarray:
    """One row for each image (N,C,H,W), one column for each of 0, 25, 50, 75 and 100 % of the way. (H,W,C) uint8."""
    eps = _noise(images, seed)
    factor = suited_scale(images.shape[-2:], scale)
    columns = [
        enlarge(grid(to_uint8(_diffuse(images, eps, torch.tensor(p / 100), schedule)), columns=1), factor)
        for p in SHARES
    ]
    height, width, channels = columns[0].shape
    cell = max(width, caption.width_of("100 %") + 4)
    picture = caption.canvas(height + caption.LINE + 2 * MARGIN, len(SHARES) * cell + 2 * MARGIN, channels)
    for i, (share, column) in enumerate(zip(SHARES, columns, strict=True)):
        x = MARGIN + i * cell
        inset = x + (cell - width) // 2
        picture[MARGIN + caption.LINE : MARGIN + caption.LINE + height, inset : inset + width] = column
        caption.write(picture, f"{share} %", x + cell // 2, MARGIN + caption.LINE // 2, "mm")
    return picture


def _picture(x: Tensor, t: float, total_steps: int, columns: int | None, scale: int | None) -> np.ndarray:
    tiles = enlarge(grid(to_uint8(x), columns), suited_scale(x.shape[-2:], scale))
    height, width, channels = tiles.shape
    text = f"t = {round(t * total_steps)} / {total_steps}"
    column = max(width, caption.width_of(f"t = {total_steps} / {total_steps}"))
    picture = caption.canvas(height + caption.LINE + 2 * MARGIN, column + 2 * MARGIN, channels)
    inset = MARGIN + (column - width) // 2
    picture[MARGIN + caption.LINE : MARGIN + caption.LINE + height, inset : inset + width] = tiles
    caption.write(picture, text, MARGIN + column, MARGIN + caption.LINE // 2, "rm")
    return picture


def _diffuse(images: Tensor, eps: Tensor, t: Tensor, schedule: AlphaSigma) -> Tensor:
    alpha, sigma = schedule(t.to(torch.float32))
    return alpha * images + sigma * eps


def _noise(images: Tensor, seed: int) -> Tensor:
    return torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
