"""Pictures as characters for the terminal. Returns plain values; the console adds the colour."""

import numpy as np
from PIL import Image
from torch import Tensor

from .pixels import as_rgb, grid, layout

Colour = tuple[int, int, int]
Cell = tuple[Colour, Colour]
"""The colours of the upper and the lower half of one character."""

RAMP = " .:-=+*#%@"
"""From dark to bright, on a dark terminal."""
LUMA = np.array([0.299, 0.587, 0.114])
"""Perceived brightness of red, green and blue (ITU-R BT.601)."""


LEGIBLE = 16
"""Minimum width of a thumbnail in pixels; smaller pictures are never shrunk."""


def thumbnails(pixels: Tensor, columns: int | None, width: int, height: int) -> np.ndarray:
    """(N,C,H,W) uint8 -> one picture of the first images, as many as are legible in `width` x `height` pixels.

    Args:
        columns: preferred number in a row; there are fewer if they would not be legible.
    """
    tile = min(pixels.shape[-1], LEGIBLE)
    across = max(1, min(layout(len(pixels), columns), (width - 1) // (tile + 1)))
    down = max(1, height // (tile + 1))
    return grid(pixels[: across * down], across, background=0)


def half_blocks(picture: np.ndarray, columns: int) -> list[list[Cell]]:
    """(H,W,C) uint8 -> rows of at most `columns` cells, two pixels high each; shrunk to fit, never enlarged."""
    pixels = _fit(picture, columns)
    if len(pixels) % 2:
        pixels = np.concatenate([pixels, pixels[-1:]])
    halves = zip(pixels[::2].tolist(), pixels[1::2].tolist(), strict=True)
    return [[(tuple(u), tuple(v)) for u, v in zip(upper, lower, strict=True)] for upper, lower in halves]


def shades(picture: np.ndarray, columns: int) -> list[str]:
    """(H,W,C) uint8 -> lines of at most `columns` characters; two per pixel, as one is twice as high as wide."""
    light = _fit(picture, columns // 2) @ LUMA
    index = (light / 256 * len(RAMP)).astype(int)
    return ["".join(RAMP[i] * 2 for i in row).rstrip() for row in index]


def _fit(picture: np.ndarray, width: int) -> np.ndarray:
    """(H,W,3), shrunk by averaging to at most max(1, `width`) pixels wide."""
    picture, width = as_rgb(picture), max(1, width)
    if picture.shape[1] <= width:
        return picture
    height = max(1, round(picture.shape[0] * width / picture.shape[1]))
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BOX))
