"""The names of classes above the columns of a grid."""

import importlib.util
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .caption import BASELINE, INK, LINE, SIZE, SPACE, canvas

ELLIPSIS = "…"
LONGEST = 300
"""Characters of a name of which it is tried how many fit."""


def headings(classes: Sequence[str], labels: Sequence[int]) -> list[str]:
    """What to call the class of each image: its name, or its number, such as #2, if no font here has its letters."""
    return [name if _font_for(name) else f"#{label}" for name, label in zip(classes, labels, strict=True)]


def headed(picture: np.ndarray, classes: Sequence[str] | None, columns: int, edge: int) -> np.ndarray:
    """(H,W,C) with the class of each column above it, shortened to fit; equal names side by side are written once.

    Args:
        picture: of a grid, row by row. Returned unchanged if a column mixes classes.
        classes: of each image, see `headings`; None = without classes.
        columns: of the grid.
        edge: left of the first column, in pixels.
    """
    names = list((classes or ())[:columns])
    if not classes or any(name != names[i % columns] for i, name in enumerate(classes)):
        return picture
    height, width, channels = picture.shape
    out = canvas(height + LINE, width, channels)
    out[LINE:] = picture
    step, start = (width - edge) // columns, 0
    for end in range(1, len(names) + 1):
        if end == len(names) or names[end] != names[start]:
            _write(out, names[start], edge + start * step, end * step)
            start = end
    return out


def _write(picture: np.ndarray, name: str, left: int, right: int) -> None:
    """Draw the name, centred between two edges, into the first line of a picture."""
    font = _font_for(name)
    text = name if font is None else _fitting(name, font, right - left - SPACE)
    if font is None or not text:
        return
    middle = (left + right) / 2
    mask = Image.new("L", (picture.shape[1], LINE), 0)
    ImageDraw.Draw(mask).text((middle, SPACE // 2 + BASELINE), text, fill=255, font=font, anchor="ms")
    opacity = np.asarray(mask, np.float32)[:, :, None] / 255
    line = picture[:LINE]
    line[:] = np.round(line * (1 - opacity) + INK * opacity).astype(np.uint8)


def _fitting(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """The text, or its beginning and an ellipsis, no wider than `width`; empty if not even one character fits."""
    if len(text) <= LONGEST and font.getlength(text) <= width:
        return text
    kept = next(
        (n for n in range(min(len(text) - 1, LONGEST), 0, -1) if font.getlength(text[:n] + ELLIPSIS) <= width), 0
    )
    return text[:kept].rstrip() + ELLIPSIS if kept else ""


@cache
def _font_for(text: str) -> ImageFont.FreeTypeFont | None:
    """A font that has all characters of the text."""
    if not text.isprintable():
        return None
    return next((font for font in _fonts() if all(_has(font, c) for c in text if not c.isspace())), None)


@cache
def _fonts() -> list[ImageFont.FreeTypeFont]:
    """The font of the captions, which has the letters of English, and that of plots, for other alphabets."""
    found = [ImageFont.load_default(size=SIZE)]
    if (spec := importlib.util.find_spec("matplotlib")) and spec.origin:
        path = Path(spec.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf"
        if path.exists():
            found.append(ImageFont.truetype(str(path), SIZE - 1))
    return [font for font in found if isinstance(font, ImageFont.FreeTypeFont)]


def _has(font: ImageFont.FreeTypeFont, character: str) -> bool:
    return _drawn(font, character) != _drawn(font, "\U0010ffff")


def _drawn(font: ImageFont.FreeTypeFont, character: str) -> tuple[bytes, tuple[int, int]]:
    mask = font.getmask(character)
    return bytes(mask), mask.size
