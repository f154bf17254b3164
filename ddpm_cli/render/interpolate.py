"""The frames of an interpolation: the pictures, and above them a slider between the names of the two ends."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from . import caption
from .pixels import EDGE, MARGIN, fitting_scale, sheet, to_uint8

TRACK = 72
"""Minimum length of the line between the two names, in pixels."""
GAP = 12
"""Pixels between a name and the line."""
KNOB = 4
"""Half the side of the square that moves along the line."""
LONGEST = 14
"""Maximum number of characters of a name."""


def interpolation_frames(
    images: Sequence[Tensor], weights: Sequence[float], names: tuple[str, str], scale: int | None = None
) -> list[np.ndarray]:
    """One picture (H,W,C) uint8 for each weight, all with the same layout.

    Args:
        images: (N,C,H,W), uint8 or in [-1, 1], for each weight.
        weights: 0 = the first of `names`, 1 = the second.
        scale: size of one pixel of the model in pixels; None = chosen to fit.
    """
    short = _short(names[0]), _short(names[1])
    return [_picture(x, weight, short, scale) for x, weight in zip(images, weights, strict=True)]


def _picture(x: Tensor, weight: float, names: tuple[str, str], scale: int | None) -> np.ndarray:
    tiles = sheet(to_uint8(x), None, fitting_scale(x, None, scale))
    height, width, channels = tiles.shape
    left, right = (caption.width_of(name) for name in names)
    total_width = max(width, left + right + TRACK + 2 * GAP)
    picture = caption.canvas(height + caption.LINE + 2 * MARGIN, total_width + 2 * MARGIN, channels)
    picture[MARGIN + caption.LINE :, MARGIN + (total_width - width) // 2 :][:height, :width] = tiles
    caption.write(picture, names[0], MARGIN, MARGIN)
    caption.write(picture, names[1], MARGIN + total_width, MARGIN, align=1)
    _slider(picture, weight, MARGIN + left + GAP, MARGIN + total_width - right - GAP)
    return picture


def _slider(picture: np.ndarray, weight: float, low: int, high: int) -> None:
    middle = MARGIN + caption.BASELINE - 5  # half the height of small letters
    picture[middle - 1 : middle + 1, low:high] = EDGE
    knob = round(low + KNOB + weight * (high - low - 2 * KNOB))
    picture[middle - KNOB : middle + KNOB, knob - KNOB : knob + KNOB] = caption.INK


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 3]}..."
