"""Real images turning into noise: x_t = alpha_t x_0 + sigma_t eps, with one eps per image so that nothing flickers."""

import numpy as np
import torch
from torch import Tensor

from ..diffusion.noise import ImageNoise
from . import caption
from .denoise import FrameSpacing, evenly_visible, spaced
from .pixels import GAP, MARGIN, fitting_scale, sheet, to_uint8
from .time_label import AlphaSigma, TimeLabel, as_time_label, explodes, visible

SHARES = (0, 25, 50, 75, 100)
"""Per cent of the way from image to noise, one column of the strip each."""


def forward_frames(
    images: Tensor,
    schedule: AlphaSigma,
    count: int,
    seed: int,
    total_steps: int | TimeLabel,
    columns: int | None = None,
    scale: int | None = None,
    spacing: FrameSpacing = "motion",
) -> list[np.ndarray]:
    """At most `count` pictures (H,W,C) uint8 from t = 0 to 1.

    Args:
        images: (N,C,H,W) in [-1, 1].
        seed: seed of the noise; image i uses seed + i.
        total_steps: T, for the caption "t = 250 / 1000", or another label.
        columns: columns of tiles; None = nearly a square.
        scale: size of one pixel of the model in pixels; None = chosen to fit.
        spacing: `motion` = the picture changes about equally between frames, `even` = t does.
    """
    eps = _noise(images, seed)
    times = _descending(as_time_label(total_steps).grid)
    chosen = times[spaced(times, schedule, count, spacing)].flip(0)
    return [_picture(_diffuse(images, eps, float(t), schedule), float(t), total_steps, columns, scale) for t in chosen]


def forward_strip(
    images: Tensor, schedule: AlphaSigma, seed: int, scale: int | None = None, rows: int = 8
) -> np.ndarray:
    """The first `rows` images (N,C,H,W) at 0, 25, 50, 75 and 100 % of the way to noise, a column each. (H,W,C) uint8.

    The noise is the same as in `forward_frames` with the same seed. The fraction is measured in t, or, for a
    variance-exploding schedule, which hides everything early, in the angle of `evenly_visible`.
    """
    images = images[:rows]
    eps = _noise(images, seed)
    factor = fitting_scale(images, 1, scale, panels=len(SHARES))
    columns = [sheet(to_uint8(_diffuse(images, eps, t, schedule)), 1, factor) for t in _strip_times(schedule)]
    height, width, channels = columns[0].shape
    cell = max(width, caption.width_of("100 %"))
    total_width = len(SHARES) * (cell + GAP) - GAP
    picture = caption.canvas(height + caption.LINE + 2 * MARGIN, total_width + 2 * MARGIN, channels)
    for i, (share, column) in enumerate(zip(SHARES, columns, strict=True)):
        x = MARGIN + i * (cell + GAP)
        picture[MARGIN + caption.LINE :, x + (cell - width) // 2 :][:height, :width] = column
        caption.write(picture, f"{share} %", x + cell // 2, MARGIN, align=0.5)
    return picture


def _picture(x: Tensor, t: float, total_steps: int | TimeLabel, columns: int | None, scale: int | None) -> np.ndarray:
    tiles = sheet(to_uint8(x), columns, fitting_scale(x, columns, scale))
    height, width, channels = tiles.shape
    total_width = max(width, caption.step_width(total_steps))
    picture = caption.canvas(height + caption.LINE + 2 * MARGIN, total_width + 2 * MARGIN, channels)
    picture[MARGIN + caption.LINE :, MARGIN:][:height, :width] = tiles
    caption.write_step(picture, t, total_steps, MARGIN + caption.step_width(total_steps), MARGIN)
    return picture


def _diffuse(images: Tensor, eps: Tensor, t: float, schedule: AlphaSigma) -> Tensor:
    alpha, sigma = schedule(torch.tensor(t, dtype=torch.float64))
    return visible(float(alpha) * images + float(sigma) * eps, t, schedule)


def _strip_times(schedule: AlphaSigma) -> list[float]:
    if not explodes(schedule):
        return [share / 100 for share in SHARES]
    times = _descending(100_000)
    chosen: list[float] = times[evenly_visible(times, schedule, len(SHARES))].flip(0).tolist()
    return chosen


def _descending(grid: int) -> Tensor:
    """(grid + 1,) times from 1 down to 0, evenly spaced."""
    return torch.arange(grid, -1, -1, dtype=torch.float64) / grid


def _noise(images: Tensor, seed: int) -> Tensor:
    return ImageNoise(range(seed, seed + len(images)))(images)
