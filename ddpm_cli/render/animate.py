"""Frames -> an animation: a GIF, which every program shows, or an MP4, which is small."""

import io
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import imageio.v3 as iio
import numpy as np
from PIL import Image

from ..files import naming, remove_parts, write_atomically
from ..ours import SIGNATURE
from .gif import encode_gif
from .pixels import as_rgb

SLOWEST, LONGEST = 0.01, 600.0
"""Frames per second and seconds of hold: a GIF cannot hold a frame for more than 655 s."""


def write_animation(path: Path, frames: Sequence[np.ndarray], fps: float, hold: float, format: str = "gif") -> None:
    """frames (H,W), (H,W,1) or (H,W,3) uint8, all of one size; the last one is held for `hold` seconds.

    A GIF rounds durations to hundredths of a second and runs at 50 frames per second at most.

    Raises:
        ValueError: unknown format, no frames, frames of different shapes, fps or hold out of range, no package for MP4.
        OSError: the file cannot be written; nothing is left behind.
    """
    if not frames:
        raise ValueError("frames: must not be empty")
    if any(frame.shape != frames[0].shape for frame in frames):
        raise ValueError("frames: must all have the same shape")
    if not SLOWEST <= fps <= 1000:
        raise ValueError(f"fps: must be between {SLOWEST} and 1000, got {fps}")
    if not 0 <= hold <= LONGEST:
        raise ValueError(f"hold: must be between 0 and {LONGEST:g} seconds, got {hold}")
    remove_parts(path.parent, only={path.name})
    if format == "gif":
        write_atomically(path, lambda p: p.write_bytes(encode_animation(frames, fps, hold)))
    elif format == "mp4":
        if find_spec("av") is None:
            raise ValueError("format: mp4 needs the package av; pip install 'ddpm-cli[mp4]' or use format=gif")
        write_atomically(path, lambda p: p.write_bytes(encode_mp4(frames, fps, hold)))
    else:
        raise ValueError(f"format: must be gif or mp4, got {format!r}")


def frames_of(path: Path, frames: Sequence[np.ndarray]) -> int:
    """The number of frames in the file at `path`, made of `frames`: a GIF holds equal neighbours as one."""
    if path.suffix != ".gif":
        return len(frames)
    with naming(path), Image.open(path) as image:
        return int(getattr(image, "n_frames", 1))


def encode_animation(frames: Sequence[np.ndarray], fps: float, hold: float) -> bytes:
    """The bytes of a GIF, see `write_animation`."""
    buffer = io.BytesIO()
    encode_gif(buffer, frames, fps, hold)
    return buffer.getvalue()


def encode_mp4(frames: Sequence[np.ndarray], fps: float, hold: float) -> bytes:
    """The bytes of an H.264 video in yuv420p, which every player supports; uses the package av.

    frames (H,W), (H,W,1) or (H,W,3) uint8; the last one is repeated to last `hold` seconds.
    """
    height, width = frames[0].shape[:2]
    # yuv420p stores colours per 2x2 pixels, so the sides must be even; if necessary, add one pixel of margin
    even = [np.pad(as_rgb(f), ((0, height % 2), (0, width % 2), (0, 0)), mode="edge") for f in frames]
    even += [even[-1]] * max(0, round(hold * fps) - 1)
    encoded = iio.imwrite(
        "<bytes>", even, extension=".mp4", plugin="pyav", codec="h264", fps=fps, out_pixel_format="yuv420p"
    )
    assert isinstance(encoded, bytes)
    return encoded + (8 + len(SIGNATURE)).to_bytes(4, "big") + b"free" + SIGNATURE  # players skip a box of that name
