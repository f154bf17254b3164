"""Words above pictures, crisp and always in the same place."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .pixels import BACKGROUND

INK = 64
"""Dark grey."""
SIZE = 16
"""Height of the letters, in pixels of the finished picture."""
LINE = 26
"""Height of a line of caption."""


def canvas(height: int, width: int, channels: int) -> np.ndarray:
    """An empty picture (H,W,C)."""
    return np.full((height, width, channels), BACKGROUND, np.uint8)


def write(picture: np.ndarray, text: str, x: int, y: int, anchor: str = "lm") -> None:
    """Draw `text` into (H,W,C), in place. anchor as in Pillow: first l, m or r of x, then a, m or d of y."""
    mask = Image.new("L", (picture.shape[1], picture.shape[0]), 0)
    ImageDraw.Draw(mask).text((x, y), text, fill=255, font=font(), anchor=anchor)
    cover = np.asarray(mask, np.float32)[:, :, None] / 255
    picture[:] = np.round(picture * (1 - cover) + INK * cover).astype(np.uint8)


def width_of(text: str) -> int:
    """In pixels."""
    return int(np.ceil(font().getlength(text)))


def font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The one that comes with Pillow, so that pictures are the same everywhere."""
    return ImageFont.load_default(size=SIZE)
