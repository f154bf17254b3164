"""Captions above pictures, sharp and always in the same place."""

import re
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .pixels import BACKGROUND
from .time_label import TimeLabel, as_time_label

INK = 64
"""Dark grey, the colour of the letters."""
SIZE = 16
"""Font size, in pixels of the final picture."""
LINE = 24
"""Height of a line of caption, from its top to the pictures below it."""
BASELINE = 14
"""From the top of a line down to the baseline of its letters."""
SPACE = 6
"""Space around the slash of "637 / 1000"."""
BELOW = 3
"""How far below the baseline a subscript such as the t of x_t is."""


def canvas(height: int, width: int, channels: int) -> np.ndarray:
    """A blank picture (H,W,C)."""
    return np.full((height, width, channels), BACKGROUND, np.uint8)


def write(picture: np.ndarray, text: str, x: int, top: int, align: float = 0.0) -> None:
    """Draw `text` into `picture` (H,W,C), in place. "x_t" is drawn as x with a subscript t.

    Args:
        x: the left edge of the text with align 0, its middle with 0.5, its right edge with 1.
        top: the top of its line.
    """
    width = width_of(text)
    mask = Image.new("L", (width, LINE), 0)
    draw, offset = ImageDraw.Draw(mask), 0
    for piece, small in _pieces(text):
        draw.text((offset, BASELINE + BELOW * small), piece, fill=255, font=_font(small), anchor="ls")
        offset += _advance(piece, small)
    left = x - round(align * width)
    region = picture[top : top + LINE, left : left + width]
    opacity = np.asarray(mask, np.float32)[:, :, None] / 255
    region[:] = np.round(region * (1 - opacity) + INK * opacity).astype(np.uint8)


def titled(picture: np.ndarray, text: str) -> np.ndarray:
    """(H,W,C) with a line of `text` above it; wider if the text is wider."""
    height, width, channels = picture.shape
    out = canvas(height + LINE, max(width, width_of(text) + 2 * SPACE), channels)
    write(out, text, SPACE, SPACE // 2)
    out[LINE:, :width] = picture
    return out


def write_step(picture: np.ndarray, t: float, total: int | TimeLabel, right: int, top: int) -> None:
    """Draw "t = 637 / 1000" right-aligned at `right`. All digits have the same width, so that nothing moves."""
    label = as_time_label(total)
    cells = [(c, _digit() if c.isdigit() else width_of(c)) for c in label.value(t)]
    start = right - step_width(label) + width_of(label.name) + SPACE
    write(picture, label.name, start - SPACE, top, align=1)
    if label.after:  # right-align the number against the text after it
        write(picture, label.after, right, top, align=1)
        start += label.places * _digit() - sum(width for _, width in cells)
    for character, width in cells:
        write(picture, character, start + width - width // 2, top, align=0.5)
        start += width


def step_width(total: int | TimeLabel) -> int:
    """The width of what `write_step` draws, in pixels."""
    label = as_time_label(total)
    after = width_of(label.after) + SPACE if label.after else 0
    return width_of(label.name) + SPACE + label.places * _digit() + after


def width_of(text: str) -> int:
    """The width of `text` in pixels."""
    return sum(_advance(piece, small) for piece, small in _pieces(text))


def _pieces(text: str) -> list[tuple[str, bool]]:
    """ "x_t now" -> ("x", False), ("t", True), (" now", False). Only x has subscripts: names have underscores, too."""
    pieces = re.split(r"(?<=\bx)_(\w)(?!\w)", text)  # captured groups are at the odd positions
    return [(piece, i % 2 == 1) for i, piece in enumerate(pieces) if piece]


def _advance(piece: str, small: bool) -> int:
    return int(np.ceil(_font(small).getlength(piece))) + 2 * small


@cache
def _digit() -> int:
    return max(width_of(digit) for digit in "0123456789")


@cache
def _font(small: bool) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font that comes with Pillow, so that pictures are the same on every machine."""
    return ImageFont.load_default(size=SIZE - 4 if small else SIZE)
