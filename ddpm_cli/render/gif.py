"""GIF encoding: at most 256 colours per frame. Grey frames keep every shade; colour frames get a palette each.

A single palette for all frames would have to fit the noise as well as the pictures, and neither would look smooth. With
a palette per frame, frames that hardly differ would shimmer. So a pixel whose displayed colour is still right is left
unchanged, and the palette is made for the other pixels. Static areas are drawn once and then only refined. There is no
dithering, because its dots would blur the sharp squares and move from frame to frame.
"""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from ..ours import SIGNATURE
from .caption import INK
from .pixels import BACKGROUND, EDGE

TICK = 10
"""Milliseconds: GIF durations are in hundredths of a second."""
FASTEST = 20
"""Milliseconds: browsers slow down animations with shorter frames."""
MOST_FPS = 1000 // FASTEST
SAMPLE = 10_000
"""Number of pixels that a palette is made from."""
TOLERANCE = 3 * 3**2
"""Squared distance in RGB: three levels in each channel, which is not visible."""
GREYS = np.unique([*np.linspace(INK, BACKGROUND, 16).round(), EDGE]).astype(np.uint8)
"""Colours of the background, tile edges and antialiased letters: in every palette, at the same indices."""
STAYS = 255
"""The index of the transparent colour: the pixel keeps its previous colour."""


def encode_gif(target: Path | BinaryIO, frames: Sequence[np.ndarray], fps: float, hold: float) -> None:
    """Write an endless loop. frames (H,W), (H,W,1) or (H,W,3) uint8; the last one is held for `hold` seconds."""
    grey = frames[0].ndim == 2 or frames[0].shape[2] == 1
    images = [Image.fromarray(f.reshape(f.shape[:2])) for f in frames] if grey else list(_paletted(frames))
    durations = frame_durations(len(images), fps)
    durations[-1] = max(durations[-1], round(hold * 1000 / TICK) * TICK)
    images[0].save(
        target, "GIF", save_all=True, append_images=images[1:], duration=durations, loop=0, optimize=False, disposal=1,
        comment=SIGNATURE,
    )  # fmt: skip


def frame_durations(n: int, fps: float) -> list[int]:
    """Milliseconds of each of n frames, in hundredths of a second, so that the speed is `fps` on average."""
    each = max(FASTEST, 1000 / fps)
    ends = [round(i * each / TICK) * TICK for i in range(n + 1)]
    return [after - before for before, after in itertools.pairwise(ends)]


def _paletted(frames: Sequence[np.ndarray]) -> Iterator[Image.Image]:
    """Frames (H,W,3) in at most 255 colours each; after the first, only the pixels that differ from those displayed."""
    shown: np.ndarray | None = None
    for frame in frames:
        error = np.full(frame.shape[:2], np.inf) if shown is None else _distance(frame, shown)
        stale = error > TOLERANCE
        palette = _palette(frame[stale])
        index = _nearest(frame, palette)
        stale &= _distance(frame, palette[index]) < error
        shown = palette[index] if shown is None else np.where(stale[:, :, None], palette[index], shown)
        image = Image.new("P", (frame.shape[1], frame.shape[0]))
        image.frombytes(np.where(stale, index, STAYS).astype(np.uint8).tobytes())
        image.putpalette(palette.tobytes())
        if not stale.all():
            image.info["transparency"] = STAYS
        yield image


def _palette(pixels: np.ndarray) -> np.ndarray:
    """Colours (256,3) for pixels (N,3): first `GREYS`, then colours for the other pixels; `STAYS` is unused."""
    coloured = pixels[~_is_plain(pixels)]
    free = STAYS - len(GREYS)
    colours = np.zeros((0, 3), np.uint8)
    if len(coloured):
        sample = np.ascontiguousarray(coloured[:: max(1, len(coloured) // SAMPLE)])
        quantized = Image.fromarray(sample[None]).quantize(free, Image.Quantize.MEDIANCUT, kmeans=2)
        colours = np.array(quantized.getpalette(), np.uint8).reshape(-1, 3)[:free]
    white = np.full((256 - len(GREYS) - len(colours), 3), BACKGROUND, np.uint8)
    return np.concatenate([np.repeat(GREYS[:, None], 3, axis=1), colours, white])


def _nearest(frame: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """The index in the palette of each pixel of (H,W,3), (H,W) uint8."""
    holder = Image.new("P", (1, 1))
    holder.putpalette(palette.tobytes())
    index = np.array(Image.fromarray(frame).quantize(palette=holder, dither=Image.Dither.NONE))
    # Pillow looks colours up in steps of 4, so a similar colour could replace the background
    plain = _is_plain(frame)
    index[plain] = np.searchsorted(GREYS, frame[plain][:, 0])
    return np.where(index == STAYS, len(GREYS) - 1, index)  # both are white


def _is_plain(pixels: np.ndarray) -> np.ndarray:
    """Whether each pixel of (..., 3) is one of `GREYS`, (...) bool."""
    return (pixels == pixels[..., :1]).all(-1) & np.isin(pixels[..., 0], GREYS)


def _distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared distance in RGB, (H,W)."""
    return np.square(a.astype(np.int32) - b).sum(-1)
