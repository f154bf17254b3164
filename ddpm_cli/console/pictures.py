"""Pictures in the terminal."""

import sys
from typing import TYPE_CHECKING

from rich.color import Color
from rich.style import Style
from rich.text import Text

from .lines import note, out

if TYPE_CHECKING:
    from torch import Tensor

PREVIEW = 36
"""Height of a preview in pixels; a line shows two of them if there is colour."""


def show_pictures(pixels: "Tensor", across: int | None, caption: str, only_in_colour: bool = False) -> None:
    """Show the first images of (N,C,H,W) uint8: two pixels per character, or shades of text without colour.

    Args:
        only_in_colour: without colour, show the caption alone. Shades of text are hard to read.
    """
    from ..render.preview import half_blocks, shades, thumbnails

    note(caption)
    if out.color_system in ("truecolor", "256") and _can_print("▀"):
        for row in half_blocks(thumbnails(pixels, across, columns(), PREVIEW)):
            line = Text("  ")
            for upper, lower in row:
                line.append("▀", Style(color=Color.from_rgb(*upper), bgcolor=Color.from_rgb(*lower)))
            out.print(line, no_wrap=True, crop=True)
    elif not only_in_colour:
        for text in shades(thumbnails(pixels, across, columns() // 2, PREVIEW // 2)):
            out.print("  " + text, markup=False, no_wrap=True, crop=out.is_terminal)


def columns() -> int:
    """The maximum width of a picture, in characters."""
    return max(min(out.width, 100) - 4, 16)


def _can_print(character: str) -> bool:
    # while a bar is shown, stdout is rich's, which has no encoding
    encodings = (getattr(stream, "encoding", None) for stream in (sys.stdout, sys.__stdout__))
    try:
        character.encode(next(filter(None, encodings), "ascii"))
    except UnicodeEncodeError:
        return False
    return True
