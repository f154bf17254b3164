"""The pictures and masks that a request names, as the model's images are."""

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
    """The picture at `path` as the model's images are, (1,C,H,W) in [-1, 1].

    Raises:
        DataError: it is missing or unreadable.
    """
    channels, height, width = shape
    array = _read(path, key, lambda image: picture(image, (height, width), channels))
    return to_float(torch.from_numpy(np.array(array))[None])


def mask_of(path: str, init: str, shape: tuple[int, ...]) -> Tensor:
    """Where the mask at `path` is white, (1,1,H,W) bool; cut as the picture at `init` is.

    A pixel of the model is painted when any part of it is white: what is kept shows nothing that was to go.

    Raises:
        DataError: it is missing or unreadable, of another shape than the picture, or all of one colour.
    """
    _, height, width = shape

    def convert(image: Image.Image) -> np.ndarray:
        grey = flatten(ImageOps.exif_transpose(image), 1, behind="black")  # what is transparent is not painted
        white = Image.fromarray(np.where(np.asarray(grey) >= 128, 255, 0).astype(np.float32))
        return np.asarray(ImageOps.fit(white, (width, height), Image.Resampling.BOX)) > 0.5

    wide, high = _read(path, "mask", _size)
    across, down = _read(init, "init", _size)
    if abs(wide * down - high * across) > max(wide, high, across, down):  # rounding may take a pixel
        raise DataError(f"mask: {path} is {wide}x{high} and init {across}x{down}; draw it on the picture itself")
    white = torch.from_numpy(np.array(_read(path, "mask", convert)))[None, None]
    if not white.any():
        raise DataError(f"mask: {path} has no white, which is what would be painted; paint some")
    if white.all():
        raise DataError(f"mask: {path} is white all over at {width}x{height}; leave some black, init is kept there")
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
    except Exception as error:  # a damaged file makes Pillow raise nearly anything
        raise DataError(f"{key}: {path} is not a readable picture; use PNG, JPEG or another common format") from error
