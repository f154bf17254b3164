"""The frames of a denoising animation: x_t on the left, the network's estimate of x_0 on the right."""

from collections.abc import Iterable
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..diffusion.samplers import Frame
from . import caption
from .pixels import MARGIN, fitting_scale, sheet, to_uint8
from .time_label import AlphaSigma, TimeLabel

GUTTER = 32
"""Pixels between the two halves."""
FrameSpacing = Literal["motion", "even"]
"""How frames are spaced: the picture changes equally between frames (motion), or t does (even)."""


def spaced(times: Tensor, schedule: AlphaSigma, count: int, spacing: FrameSpacing) -> list[int]:
    """At most `count` indices of `times` (decreasing), including the first and the last; count 1 gives the last."""
    return evenly_visible(times, schedule, count) if spacing == "motion" else _nearest(times, count)


def evenly_visible(times: Tensor, schedule: AlphaSigma, count: int) -> list[int]:
    """At most `count` indices of `times` (decreasing) between which the picture changes about equally.

    The angle atan2(sigma, alpha) measures how far x_t is between noise and image; the indices are evenly spaced in it
    and include the first and the last; count 1 gives the last.
    """
    alpha, sigma = schedule(times)
    return _nearest(torch.atan2(sigma, alpha), count)


def _nearest(values: Tensor, count: int) -> list[int]:
    """The indices of the `values` (non-increasing) nearest to `count` evenly spaced ones from the first to the last."""
    last = len(values) - 1
    if len(values) <= count:
        return list(range(len(values)))
    if count < 2:
        return [last]
    targets = torch.linspace(float(values[0]), float(values[-1]), count, dtype=values.dtype, device=values.device)
    nearest = (values[None] - targets[:, None]).abs().argmin(1)
    nearest[0], nearest[-1] = 0, last  # several may have the same value as an end
    return sorted(set(nearest.tolist()))


def denoise_frames(
    frames: Iterable[Frame],
    total_steps: int | TimeLabel,
    columns: int | None = None,
    scale: int | None = None,
    given: Tensor | None = None,
) -> list[np.ndarray]:
    """One picture (H,W,C) uint8 for each frame, all with the same layout.

    Args:
        frames: x and x0 (N,C,H,W), uint8 or clipped to [-1, 1], the same range in every frame.
        total_steps: T, for the caption "t = 640 / 1000", or another label.
        columns: columns of tiles in each half; None = nearly a square.
        scale: size of one pixel of the model in pixels; None = chosen to fit.
        given: (K,C,H,W) in [-1, 1], the input images, shown to the left of both halves in every frame.
    """
    frames = list(frames)
    pictures = [_picture(frame, total_steps, columns, scale) for frame in frames]
    if given is None or not pictures:
        return pictures
    factor = fitting_scale(frames[0].x, columns, scale, panels=2)
    return [np.concatenate([_inputs(given, factor, picture.shape[0]), picture], axis=1) for picture in pictures]


def _inputs(images: Tensor, factor: int, height: int) -> np.ndarray:
    """The input images in as many columns as `height` requires, with a caption above them."""
    pixels = to_uint8(images)
    rows = max(1, (height - caption.LINE - 2 * MARGIN) // (factor * (pixels.shape[-2] + 1)))
    tiles = sheet(pixels, -(-len(pixels) // rows), factor)
    width = max(tiles.shape[1], caption.width_of("input"))
    picture = caption.canvas(height, MARGIN + width + GUTTER - MARGIN, tiles.shape[2])
    caption.write(picture, "input", MARGIN, MARGIN)
    region = picture[MARGIN + caption.LINE :, MARGIN:]
    region[: tiles.shape[0], : tiles.shape[1]] = tiles[: region.shape[0], : region.shape[1]]
    return picture


def _picture(frame: Frame, total_steps: int | TimeLabel, columns: int | None, scale: int | None) -> np.ndarray:
    factor = fitting_scale(frame.x, columns, scale, panels=2)
    left, right = (sheet(to_uint8(x), columns, factor) for x in (frame.x, frame.x0))
    height, width, channels = left.shape
    column = max(width, caption.width_of("x_t") + 2 * MARGIN + caption.step_width(total_steps))
    second = MARGIN + column + GUTTER
    second_width = max(width, caption.width_of("x_0 estimate"))
    picture = caption.canvas(height + caption.LINE + 2 * MARGIN, second + second_width + MARGIN, channels)
    for tiles, x in ((left, MARGIN), (right, second)):
        picture[MARGIN + caption.LINE :, x:][:height, :width] = tiles
    caption.write(picture, "x_t", MARGIN, MARGIN)
    caption.write_step(picture, frame.t, total_steps, MARGIN + column, MARGIN)
    caption.write(picture, "x_0 estimate", second, MARGIN)
    return picture
