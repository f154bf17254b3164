"""The frames of a way from one end to another: the pictures, and above them how far they are."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from . import caption
from .pixels import EDGE, MARGIN, fitting_scale, sheet, to_uint8

TRACK = 72
"""Pixels of the line between the two names, at least."""
GAP = 12
"""Between a name and the line."""
KNOB = 4
"""Half the side of what moves along the line."""
LONGEST = 14
"""Characters of a name."""


def interpolation_frames(
    images: Sequence[Tensor], weights: Sequence[float], names: tuple[str, str], scale: int | None = None
) -> list[np.ndarray]:
    """One picture (H,W,C) uint8 for each weight, all laid out alike.

    Args:
        images: (N,C,H,W) in [-1, 1], or uint8 already, for each weight.
        weights: 0 = at the first of `names`, 1 = at the second.
        scale: pixels for one pixel of the model; None = one that suits.
    """
    shown = _short(names[0]), _short(names[1])
    return [_picture(x, weight, shown, scale) for x, weight in zip(images, weights, strict=True)]


def _picture(x: Tensor, weight: float, names: tuple[str, str], scale: int | None) -> np.ndarray:
    tiles = sheet(to_uint8(x), None, fitting_scale(x, None, scale))
    height, width, channels = tiles.shape
    left, right = (caption.width_of(name) for name in names)
    across = max(width, left + right + TRACK + 2 * GAP)
    picture = caption.canvas(height + caption.LINE + 2 * MARGIN, across + 2 * MARGIN, channels)
    picture[MARGIN + caption.LINE :, MARGIN + (across - width) // 2 :][:height, :width] = tiles
    caption.write(picture, names[0], MARGIN, MARGIN)
    caption.write(picture, names[1], MARGIN + across, MARGIN, align=1)
    _slider(picture, weight, MARGIN + left + GAP, MARGIN + across - right - GAP)
    return picture


def _slider(picture: np.ndarray, weight: float, low: int, high: int) -> None:
    middle = MARGIN + caption.BASELINE - 5  # of small letters
    picture[middle - 1 : middle + 1, low:high] = EDGE
    at = round(low + KNOB + weight * (high - low - 2 * KNOB))
    picture[middle - KNOB : middle + KNOB, at - KNOB : at + KNOB] = caption.INK


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 3]}..."
