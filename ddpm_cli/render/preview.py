"""A picture as characters. Plain values: the console gives them colour."""

import math

import numpy as np
from PIL import Image

from .pixels import as_rgb

Colour = tuple[int, int, int]
Cell = tuple[Colour, Colour]
"""One character: its upper and its lower half."""

RAMP = " .:-=+*#%@"
"""From dark to bright, on a dark terminal."""


def half_blocks(picture: np.ndarray, columns: int) -> list[list[Cell]]:
    """(H,W,C) uint8 -> rows of at most `columns` cells, two pixels high each; shrunk to fit, never enlarged."""
    pixels = as_rgb(_fit(picture, columns))
    if len(pixels) % 2:
        pixels = np.concatenate([pixels, pixels[-1:]])
    return [
        [(_colour(u), _colour(v)) for u, v in zip(upper, lower, strict=True)]
        for upper, lower in zip(pixels[::2], pixels[1::2], strict=True)
    ]


def shades(picture: np.ndarray, columns: int) -> list[str]:
    """(H,W,C) uint8 -> lines of at most `columns` characters, two for each pixel: characters are narrow."""
    grey = as_rgb(_fit(picture, columns // 2)).astype(float) @ np.array([0.299, 0.587, 0.114])
    index = np.minimum((grey / 256 * len(RAMP)).astype(int), len(RAMP) - 1)
    return ["".join(RAMP[i] * 2 for i in row).rstrip() for row in index]


def _fit(picture: np.ndarray, width: int) -> np.ndarray:
    """Shrunk by averaging until it is at most `width` pixels wide."""
    if picture.shape[1] <= width:
        return picture
    height = max(1, math.floor(picture.shape[0] * width / picture.shape[1]))
    small = Image.fromarray(as_rgb(picture)).resize((max(width, 1), height), Image.Resampling.BOX)
    return np.asarray(small)


def _colour(pixel: np.ndarray) -> Colour:
    return int(pixel[0]), int(pixel[1]), int(pixel[2])
