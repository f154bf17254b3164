"""The frames of a denoising: x_t on the left, what the network believes x_0 is on the right."""

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
"""Between the two halves."""
FrameSpacing = Literal["motion", "even"]
"""Of an animation's frames: the picture changes, or t falls, about as much between any two."""


def spaced(times: Tensor, schedule: AlphaSigma, count: int, spacing: FrameSpacing) -> list[int]:
    """At most `count` indices of `times` (decreasing), the first and the last always among them; 1 leaves the last."""
    return evenly_visible(times, schedule, count) if spacing == "motion" else _nearest(times, count)


def evenly_visible(times: Tensor, schedule: AlphaSigma, count: int) -> list[int]:
    """At most `count` indices of `times` (decreasing), such that the picture changes about as much between any two.

    The angle atan2(sigma, alpha) measures how far x_t has turned from noise to image: evenly spaced angles, the
    first and the last time always among them; a count of 1 leaves only the last.
    """
    alpha, sigma = schedule(times)
    return _nearest(torch.atan2(sigma, alpha), count)


def _nearest(values: Tensor, count: int) -> list[int]:
    """The places of those of `values` (falling or level) that are nearest to `count` even steps from first to last."""
    last = len(values) - 1
    if len(values) <= count:
        return list(range(len(values)))
    if count < 2:
        return [last]
    wanted = torch.linspace(float(values[0]), float(values[-1]), count, dtype=values.dtype, device=values.device)
    nearest = (values[None] - wanted[:, None]).abs().argmin(1)
    nearest[0], nearest[-1] = 0, last  # several may share the value of an end
    return sorted(set(nearest.tolist()))


def denoise_frames(
    frames: Iterable[Frame],
    total_steps: int | TimeLabel,
    columns: int | None = None,
    scale: int | None = None,
    given: Tensor | None = None,
) -> list[np.ndarray]:
    """One picture (H,W,C) uint8 for each frame, all laid out alike.

    Args:
        frames: x and x0 (N,C,H,W) in [-1, 1] nominally; beyond that they are clipped, always at the same values. Or
            uint8 already.
        total_steps: T, for the caption "t = 640 / 1000", or what else it should say.
        columns: of tiles in either half; None = near to a square.
        scale: pixels for one pixel of the model; None = one that suits.
        given: (K,C,H,W) in [-1, 1], what it was made from: stands to the left of both halves in every frame.
    """
    shown = list(frames)
    pictures = [_picture(frame, total_steps, columns, scale) for frame in shown]
    if given is None or not pictures:
        return pictures
    factor = fitting_scale(shown[0].x, columns, scale, panels=2)
    return [np.concatenate([_given(given, factor, picture.shape[0]), picture], axis=1) for picture in pictures]


def _given(images: Tensor, factor: int, height: int) -> np.ndarray:
    """One above the other, or in as many columns as it takes, under a caption of their own."""
    pixels = to_uint8(images)
    most = max(1, (height - caption.LINE - 2 * MARGIN) // (factor * (pixels.shape[-2] + 1)))
    tiles = sheet(pixels, -(-len(pixels) // most), factor)
    width = max(tiles.shape[1], caption.width_of("given"))
    picture = caption.canvas(height, MARGIN + width + GUTTER - MARGIN, tiles.shape[2])
    caption.write(picture, "given", MARGIN, MARGIN)
    room = picture[MARGIN + caption.LINE :, MARGIN:]
    room[: tiles.shape[0], : tiles.shape[1]] = tiles[: room.shape[0], : room.shape[1]]
    return picture


def _picture(frame: Frame, total_steps: int | TimeLabel, columns: int | None, scale: int | None) -> np.ndarray:
    factor = fitting_scale(frame.x, columns, scale, panels=2)
    left, right = (sheet(to_uint8(x), columns, factor) for x in (frame.x, frame.x0))
    height, width, channels = left.shape
    column = max(width, caption.width_of("x_t") + 2 * MARGIN + caption.step_width(total_steps))
    beside = MARGIN + column + GUTTER
    last = max(width, caption.width_of("x_0 estimate"))
    picture = caption.canvas(height + caption.LINE + 2 * MARGIN, beside + last + MARGIN, channels)
    for tiles, x in ((left, MARGIN), (right, beside)):
        picture[MARGIN + caption.LINE :, x:][:height, :width] = tiles
    caption.write(picture, "x_t", MARGIN, MARGIN)
    caption.write_step(picture, frame.t, total_steps, MARGIN + column, MARGIN)
    caption.write(picture, "x_0 estimate", beside, MARGIN)
    return picture
