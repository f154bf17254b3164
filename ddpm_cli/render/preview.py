"""Pictures as characters for the terminal. Returns plain values; the console adds the colour."""

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
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
    """(N,C,H,W) uint8 -> one picture of the first images, each shrunk, as many as fit legibly into `width` x `height`.

    Args:
        columns: preferred number in a row; there are fewer if they would not be legible.
    """
    least = min(pixels.shape[-1], LEGIBLE)
    across = max(1, min(layout(len(pixels), columns), (width - 1) // (least + 1)))
    down = max(1, height // (least + 1))
    shown = pixels[: across * down]
    side = max(1, min(pixels.shape[-1], (width - 1) // across - 1))
    return grid(_shrunk(shown, side), across, background=0)


def half_blocks(picture: np.ndarray) -> list[list[Cell]]:
    """(H,W,C) uint8 -> rows of W cells, two pixels high each."""
    pixels = as_rgb(picture)
    if len(pixels) % 2:
        pixels = np.concatenate([pixels, np.zeros_like(pixels[-1:])])
    halves = zip(pixels[::2].tolist(), pixels[1::2].tolist(), strict=True)
    return [[(tuple(u), tuple(v)) for u, v in zip(upper, lower, strict=True)] for upper, lower in halves]


def shades(picture: np.ndarray) -> list[str]:
    """(H,W,C) uint8 -> lines of 2 W characters; two per pixel, as one is twice as high as wide."""
    light = as_rgb(picture) @ LUMA
    index = (light / 256 * len(RAMP)).astype(int)
    return ["".join(RAMP[i] * 2 for i in row).rstrip() for row in index]


def _shrunk(pixels: Tensor, side: int) -> Tensor:
    """(N,C,H,W) uint8 -> at most `side` pixels wide, by averaging."""
    if pixels.shape[-1] <= side:
        return pixels
    height = max(1, round(pixels.shape[-2] * side / pixels.shape[-1]))
    return F.interpolate(pixels.float(), (height, side), mode="area").round().to(torch.uint8)
