"""Writes PNG and npz files that are complete or absent."""

from pathlib import Path

import imageio.v3 as iio
import numpy as np
from torch import Tensor

from ..files import write_atomically


def write_png(path: Path, picture: np.ndarray) -> None:
    """Write (H,W), (H,W,1) or (H,W,3) uint8. Raises OSError if it cannot be written; nothing is left behind."""
    write_atomically(path, lambda p: p.write_bytes(png_bytes(picture)))


def png_bytes(picture: np.ndarray) -> bytes:
    """(H,W), (H,W,1) or (H,W,3) uint8 as a PNG file."""
    flat = picture[:, :, 0] if picture.ndim == 3 and picture.shape[2] == 1 else picture
    encoded = iio.imwrite("<bytes>", flat, extension=".png")
    assert isinstance(encoded, bytes)
    return encoded


def write_images(folder: Path, images: Tensor, start: int = 0) -> None:
    """Write (N,C,H,W) uint8 as 000000.png, 000001.png, ... in the existing `folder`, numbered from `start`."""
    for number, image in enumerate(_channels_last(images), start=start):
        write_png(folder / f"{number:06d}.png", image)


def write_npz(path: Path, images: Tensor, labels: Tensor | None = None) -> None:
    """Write arr_0 (N,H,W,C) and, with labels, arr_1 (N,) int64.

    Of uint8 images, it is what the evaluator of Dhariwal & Nichol 2021 reads.

    Raises:
        OSError: the file cannot be written; nothing is left behind.
    """
    arrays = [_channels_last(images)]
    if labels is not None:
        arrays.append(labels.cpu().numpy().astype(np.int64))

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:  # numpy appends .npz to a file name, but not to an open file
            np.savez(file, *arrays)

    write_atomically(path, write)


def _channels_last(images: Tensor) -> np.ndarray:
    return np.ascontiguousarray(images.permute(0, 2, 3, 1).cpu().numpy())
