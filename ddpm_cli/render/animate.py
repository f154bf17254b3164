"""Frames -> an animation: GIF that everything shows, MP4 that is small."""

import io
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import imageio.v3 as iio
import numpy as np

from ..files import write_atomically
from .gif import encode_gif
from .pixels import as_rgb

SLOWEST, LONGEST = 0.01, 600.0
"""Frames a second and seconds of hold: GIF cannot say more than 655 s."""


def write_animation(path: Path, frames: Sequence[np.ndarray], fps: float, hold: float, format: str = "gif") -> None:
    """frames (H,W), (H,W,1) or (H,W,3) uint8, all of one size; the last one stays for `hold` seconds.

    A GIF tells time in hundredths of a second and is shown at 50 frames a second at most.

    Raises:
        ValueError: an unknown format, no frames or unlike ones, fps or hold out of range, MP4 without its extra.
        OSError: it cannot be written; then nothing is left behind.
    """
    if not frames:
        raise ValueError("frames: there are none to write")
    if any(frame.shape != frames[0].shape for frame in frames):
        raise ValueError("frames: must all have the same shape")
    if not SLOWEST <= fps <= 1000:
        raise ValueError(f"fps: must be between {SLOWEST} and 1000, got {fps}")
    if not 0 <= hold <= LONGEST:
        raise ValueError(f"hold: must be between 0 and {LONGEST:g} seconds, got {hold}")
    if format == "gif":
        write_atomically(path, lambda p: encode_gif(p, frames, fps, hold))
    elif format == "mp4":
        if find_spec("av") is None:
            raise ValueError("format: mp4 needs the package av; pip install 'ddpm-cli[mp4]' or use format=gif")
        write_atomically(path, lambda p: p.write_bytes(encode_mp4(frames, fps, hold)))
    else:
        raise ValueError(f"format: must be gif or mp4, got {format!r}")


def encode_animation(frames: Sequence[np.ndarray], fps: float, hold: float) -> bytes:
    """The bytes of a GIF, see `write_animation`."""
    buffer = io.BytesIO()
    encode_gif(buffer, frames, fps, hold)
    return buffer.getvalue()


def encode_mp4(frames: Sequence[np.ndarray], fps: float, hold: float) -> bytes:
    """H.264 in the colour format that every player knows, by the package av.

    frames (H,W), (H,W,1) or (H,W,3) uint8; the last one is repeated until it has stayed for `hold` seconds.
    """
    height, width = frames[0].shape[:2]
    # its colours are stored for two by two pixels, so sides must be even; the margin grows by one pixel
    even = [np.pad(as_rgb(f), ((0, height % 2), (0, width % 2), (0, 0)), mode="edge") for f in frames]
    even += [even[-1]] * max(0, round(hold * fps) - 1)
    encoded = iio.imwrite(
        "<bytes>", even, extension=".mp4", plugin="pyav", codec="h264", fps=fps, out_pixel_format="yuv420p"
    )
    assert isinstance(encoded, bytes)
    return encoded
