"""Reads the pictures and masks that a request names, in the model's size and format."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..data.convert import flatten, picture
from ..data.images import to_float
from ..errors import DataError

T = TypeVar("T")


def picture_of(path: str, shape: tuple[int, ...], key: str) -> Tensor:
    """The picture at `path`, resized and cropped to the model's shape, (1,C,H,W) in [-1, 1].

    Raises:
        DataError: it is missing or unreadable.
    """
    channels, height, width = shape
    array = _read(path, key, lambda image: picture(image, (height, width), channels))
    return to_float(torch.from_numpy(np.array(array))[None])


def mask_of(path: str, init: str, shape: tuple[int, ...]) -> Tensor:
    """Where the mask at `path` is white, (1,1,H,W) bool; resized and cropped like the picture at `init`.

    A pixel of the model is repainted when any part of it is white, so that nothing marked for repainting remains.

    Raises:
        DataError: it is missing or unreadable, has other proportions than the picture, or is all of one colour.
    """
    _, height, width = shape

    def convert(image: Image.Image) -> np.ndarray:
        grey = flatten(ImageOps.exif_transpose(image), 1, behind="black")  # transparent areas are not repainted
        white = Image.fromarray(np.where(np.asarray(grey) >= 128, 255, 0).astype(np.float32))
        return np.asarray(ImageOps.fit(white, (width, height), Image.Resampling.BOX)) > 0.5

    mask_w, mask_h = _read(path, "mask", _size)
    init_w, init_h = _read(init, "init", _size)
    if abs(mask_w * init_h - mask_h * init_w) > max(mask_w, mask_h, init_w, init_h):  # tolerates rounding by a pixel
        raise DataError(
            f"mask: {path} is {mask_w}x{mask_h}, but init is {init_w}x{init_h}; draw the mask on a copy of init"
        )
    white = torch.from_numpy(np.array(_read(path, "mask", convert)))[None, None]
    if not white.any():
        raise DataError(f"mask: {path} has no white; paint the area to repaint white")
    if white.all():
        raise DataError(f"mask: {path} is completely white at {width}x{height}; leave the area to keep black")
    return white


def _size(image: Image.Image) -> tuple[int, int]:
    return ImageOps.exif_transpose(image).size


def _read(path: str, key: str, convert: Callable[[Image.Image], T]) -> T:
    if not Path(path).is_file():
        raise DataError(f"{key}: there is no file {path}; check the path")
    with _readable(path, key), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path) as image:
            return convert(image)


@contextmanager
def _readable(path: str, key: str) -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # Pillow can raise almost anything for a damaged file
        raise DataError(f"{key}: {path} is not a readable picture; use PNG, JPEG or another common format") from error
