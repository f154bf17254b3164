"""Frames -> an animation: GIF that everything shows, MP4 that is small."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import imageio.v3 as iio
import numpy as np
from PIL import Image

from ..files import write_atomically
from .pixels import as_rgb

TICK = 10
"""GIF counts time in hundredths of a second."""


def write_animation(path: Path, frames: Sequence[np.ndarray], fps: float, hold: float, format: str = "gif") -> None:
    """frames (H,W), (H,W,1) or (H,W,3) uint8, all of one size; the last one stays for `hold` seconds more.

    Raises:
        ValueError: an unknown format, no frames, fps or hold out of range, MP4 without its extra.
        OSError: it cannot be written; then nothing is left behind.
    """
    if not frames:
        raise ValueError("frames: there are none to write")
    if fps <= 0 or hold < 0:
        raise ValueError(f"fps: must be positive and hold not negative, got {fps} and {hold}")
    if format == "gif":
        write_atomically(path, lambda p: _gif(p, frames, fps, hold))
    elif format == "mp4":
        if find_spec("av") is None:
            raise ValueError("format: mp4 needs the package av; pip install 'ddpm-cli[mp4]', or use format=gif")
        write_atomically(path, lambda p: p.write_bytes(_mp4(frames, fps, hold)))
    else:
        raise ValueError(f"format: must be gif or mp4, got {format!r}")


def _gif(path: Path, frames: Sequence[np.ndarray], fps: float, hold: float) -> None:
    """Grey frames keep every shade. Colour frames share one palette, so that nothing changes colour between them."""
    paletted = _grey(frames) if frames[0].ndim == 2 or frames[0].shape[2] == 1 else _coloured(frames)
    each = max(2 * TICK, round(1000 / fps / TICK) * TICK)  # browsers slow down what is faster than 20 ms
    durations = [each] * (len(frames) - 1) + [each + round(hold * 1000 / TICK) * TICK]
    paletted[0].save(
        path, "GIF", save_all=True, append_images=paletted[1:], duration=durations, loop=0, optimize=False, disposal=1
    )


def _grey(frames: Sequence[np.ndarray]) -> list[Image.Image]:
    palette = np.repeat(np.arange(256, dtype=np.uint8), 3).tobytes()
    out = []
    for frame in frames:
        image = Image.fromarray(frame.reshape(frame.shape[:2]))
        image = Image.frombytes("P", image.size, image.tobytes())
        image.putpalette(palette)
        out.append(image)
    return out


def _coloured(frames: Sequence[np.ndarray]) -> list[Image.Image]:
    """One palette from all frames. No dithering: its dots would crawl from frame to frame and speckle the ground."""
    some = [frames[i] for i in np.unique(np.linspace(0, len(frames) - 1, 16).round().astype(int))]
    greys = np.repeat(np.linspace(0, 255, 17).round().astype(np.uint8), 3).reshape(-1, 3)  # ground and letters, exactly
    mosaic = np.concatenate([f.reshape(-1, 3)[:: max(1, len(some) * f.shape[0] * f.shape[1] // 400_000)] for f in some])
    found = Image.fromarray(mosaic[None]).quantize(
        256 - len(greys), Image.Quantize.MEDIANCUT, kmeans=2, dither=Image.Dither.NONE
    )
    colours = np.array(found.getpalette(), np.uint8).reshape(-1, 3)[: 256 - len(greys)]
    palette = Image.new("P", (1, 1))
    palette.putpalette(np.concatenate([greys, colours]).tobytes())
    return [
        Image.fromarray(np.ascontiguousarray(f)).quantize(palette=palette, dither=Image.Dither.NONE) for f in frames
    ]


def _mp4(frames: Sequence[np.ndarray], fps: float, hold: float) -> bytes:
    """H.264 with even sides, which its colour format wants; the last frame is repeated."""
    height, width = frames[0].shape[:2]
    even = [np.pad(as_rgb(f), ((0, height % 2), (0, width % 2), (0, 0)), mode="edge") for f in frames]
    even += [even[-1]] * round(hold * fps)
    encoded = iio.imwrite("<bytes>", np.stack(even), extension=".mp4", plugin="pyav", codec="libx264", fps=fps)
    assert isinstance(encoded, bytes)
    return encoded
