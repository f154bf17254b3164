"""The frames of a denoising: x_t on the left, what the network believes x_0 is on the right."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..diffusion.samplers import Frame
from . import caption
from .pixels import enlarge, grid, suited_scale, to_uint8

MARGIN = 12


class AlphaSigma(Protocol):
    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]: ...


def evenly_visible(times: Tensor, schedule: AlphaSigma, count: int) -> list[int]:
    """At most `count` indices of `times` (decreasing), such that the picture changes about as much between any two.

    The angle atan2(sigma, alpha) measures how far x_t has turned from noise to image: evenly spaced angles, the
    first and the last time always among them.
    """
    alpha, sigma = schedule(times)
    angle = torch.atan2(sigma, alpha)
    if len(times) <= count or count < 2:
        return list(range(len(times))) if len(times) <= count else [len(times) - 1]
    wanted = torch.linspace(float(angle[0]), float(angle[-1]), count, dtype=angle.dtype)
    nearest = (angle[None] - wanted[:, None]).abs().argmin(1)
    return sorted({0, len(times) - 1, *nearest.tolist()})


def denoise_frames(
    frames: Sequence[Frame], total_steps: int, columns: int | None = None, scale: int | None = None
) -> list[np.ndarray]:
    """One picture (H,W,C) uint8 for each frame, all laid out alike.

    Args:
        frames: x and x0 (N,C,H,W) in [-1, 1] nominally; beyond that they are clipped, always at the same values.
        total_steps: T, for the caption "t = 640 / 1000".
        scale: pixels for one pixel of the model; None = one that suits.
    """
    return [_picture(frame, total_steps, columns, scale) for frame in frames]


def _picture(frame: Frame, total_steps: int, columns: int | None, scale: int | None) -> np.ndarray:
    factor = suited_scale(frame.x.shape[-2:], scale)
    left, right = (enlarge(grid(to_uint8(x), columns), factor) for x in (frame.x, frame.x0))
    height, width, channels = left.shape
    step = f"t = {round(frame.t * total_steps)} / {total_steps}"
    widest = max(caption.width_of(f"x_t   t = {total_steps} / {total_steps}"), caption.width_of("x0 estimate"))
    column = max(width, widest)
    picture = caption.canvas(height + caption.LINE + 2 * MARGIN, 2 * column + 3 * MARGIN, channels)
    top, middle = MARGIN + caption.LINE, MARGIN + caption.LINE // 2
    for tiles, x in ((left, MARGIN), (right, 2 * MARGIN + column)):
        inset = x + (column - width) // 2
        picture[top : top + height, inset : inset + width] = tiles
    caption.write(picture, "x_t", MARGIN, middle)
    caption.write(picture, step, MARGIN + column, middle, "rm")  # right-aligned: the total stays where it is
    caption.write(picture, "x0 estimate", 2 * MARGIN + column, middle)
    return picture
