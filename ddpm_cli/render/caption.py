"""Words above pictures, crisp and always in the same place."""

import re
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .pixels import BACKGROUND
from .time_label import TimeLabel, as_time_label

INK = 64
"""Dark grey."""
SIZE = 16
"""Height of the letters, in pixels of the finished picture."""
LINE = 24
"""Height of a line of caption, from its top to the pictures below."""
BASELINE = 14
"""From the top of a line down to the foot of its letters."""
SPACE = 6
"""Around the stroke of "637 / 1000"."""
BELOW = 3
"""How far an index such as the t of x_t hangs below the others."""


def canvas(height: int, width: int, channels: int) -> np.ndarray:
    """An empty picture (H,W,C)."""
    return np.full((height, width, channels), BACKGROUND, np.uint8)


def write(picture: np.ndarray, text: str, x: int, top: int, align: float = 0.0) -> None:
    """Draw `text` into (H,W,C), in place. "x_t" is x with an index.

    Args:
        x: its left edge at align 0, its middle at 0.5, its right edge at 1.
        top: of its line.
    """
    width = width_of(text)
    mask = Image.new("L", (width, LINE), 0)
    draw, at = ImageDraw.Draw(mask), 0
    for piece, small in _pieces(text):
        draw.text((at, BASELINE + BELOW * small), piece, fill=255, font=_font(small), anchor="ls")
        at += _advance(piece, small)
    left = x - round(align * width)
    place = picture[top : top + LINE, left : left + width]
    cover = np.asarray(mask, np.float32)[:, :, None] / 255
    place[:] = np.round(place * (1 - cover) + INK * cover).astype(np.uint8)


def titled(picture: np.ndarray, text: str) -> np.ndarray:
    """(H,W,C) with a line of `text` above it; wider where the text is."""
    height, width, channels = picture.shape
    out = canvas(height + LINE, max(width, width_of(text) + 2 * SPACE), channels)
    write(out, text, SPACE, SPACE // 2)
    out[LINE:, :width] = picture
    return out


def write_step(picture: np.ndarray, t: float, total: int | TimeLabel, right: int, top: int) -> None:
    """Draw "t = 637 / 1000" up to `right`. Every digit has a place of its own, so that nothing moves as it counts."""
    label = as_time_label(total)
    cells = [(c, _digit() if c.isdigit() else width_of(c)) for c in label.value(t)]
    start = right - step_width(label) + width_of(label.name) + SPACE
    write(picture, label.name, start - SPACE, top, align=1)
    if label.after:  # up against what follows
        write(picture, label.after, right, top, align=1)
        start += label.places * _digit() - sum(width for _, width in cells)
    for character, width in cells:
        write(picture, character, start + width - width // 2, top, align=0.5)
        start += width


def step_width(total: int | TimeLabel) -> int:
    """What `write_step` takes, in pixels."""
    label = as_time_label(total)
    after = width_of(label.after) + SPACE if label.after else 0
    return width_of(label.name) + SPACE + label.places * _digit() + after


def width_of(text: str) -> int:
    """In pixels."""
    return sum(_advance(piece, small) for piece, small in _pieces(text))


def _pieces(text: str) -> list[tuple[str, bool]]:
    """ "x_t now" -> ("x", False), ("t", True), (" now", False)."""
    parts = re.split(r"_(\w)", text)  # what is captured comes at the odd places
    return [(part, i % 2 == 1) for i, part in enumerate(parts) if part]


def _advance(piece: str, small: bool) -> int:
    return int(np.ceil(_font(small).getlength(piece))) + 2 * small


@cache
def _digit() -> int:
    return max(width_of(digit) for digit in "0123456789")


@cache
def _font(small: bool) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The one that comes with Pillow, so that pictures are the same everywhere."""
    return ImageFont.load_default(size=SIZE - 4 if small else SIZE)
