"""The frames of a denoising: x_t on the left, what the network believes x_0 is on the right."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from ..diffusion.samplers import Frame
from . import caption
from .clock import AlphaSigma, Clock
from .pixels import to_uint8
from .sheet import MARGIN, fitting_scale, sheet

GUTTER = 32
"""Between the two halves."""


def evenly_visible(times: Tensor, schedule: AlphaSigma, count: int) -> list[int]:
    """At most `count` indices of `times` (decreasing), such that the picture changes about as much between any two.

    The angle atan2(sigma, alpha) measures how far x_t has turned from noise to image: evenly spaced angles, the
    first and the last time always among them; a count of 1 leaves only the last.
    """
    if len(times) <= count:
        return list(range(len(times)))
    if count < 2:
        return [len(times) - 1]
    alpha, sigma = schedule(times)
    angle = torch.atan2(sigma, alpha)
    wanted = torch.linspace(float(angle[0]), float(angle[-1]), count, dtype=angle.dtype, device=angle.device)
    nearest = (angle[None] - wanted[:, None]).abs().argmin(1)
    nearest[0], nearest[-1] = 0, len(times) - 1  # several times may share the angle of an end
    return sorted(set(nearest.tolist()))


def denoise_frames(
    frames: Iterable[Frame], total_steps: int | Clock, columns: int | None = None, scale: int | None = None
) -> list[np.ndarray]:
    """One picture (H,W,C) uint8 for each frame, all laid out alike.

    Args:
        frames: x and x0 (N,C,H,W) in [-1, 1] nominally; beyond that they are clipped, always at the same values.
        total_steps: T, for the caption "t = 640 / 1000", or what else it should say.
        columns: of tiles in either half; None = near to a square.
        scale: pixels for one pixel of the model; None = one that suits.
    """
    return [_picture(frame, total_steps, columns, scale) for frame in frames]


def _picture(frame: Frame, total_steps: int | Clock, columns: int | None, scale: int | None) -> np.ndarray:
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
