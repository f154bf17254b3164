"""MP4: H.264 in the colour format that every player knows. Needs the package av."""

from collections.abc import Sequence

import imageio.v3 as iio
import numpy as np

from .pixels import as_rgb


def encode_mp4(frames: Sequence[np.ndarray], fps: float, hold: float) -> bytes:
    """frames (H,W), (H,W,1) or (H,W,3) uint8; the last one is repeated until it has stayed for `hold` seconds."""
    height, width = frames[0].shape[:2]
    # its colours are stored for two by two pixels, so sides must be even; the margin grows by one pixel
    even = [np.pad(as_rgb(f), ((0, height % 2), (0, width % 2), (0, 0)), mode="edge") for f in frames]
    even += [even[-1]] * max(0, round(hold * fps) - 1)
    encoded = iio.imwrite(
        "<bytes>", even, extension=".mp4", plugin="pyav", codec="h264", fps=fps, out_pixel_format="yuv420p"
    )
    assert isinstance(encoded, bytes)
    return encoded
