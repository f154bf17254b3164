"""What `ddpm sample` and `ddpm gif` are asked to do, and the pictures that this needs."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..data.convert import flatten, picture
from ..data.images import to_float
from ..errors import ConfigError, DataError

T = TypeVar("T")
Kind = Literal["plain", "variation", "inpaint", "between_images", "between_seeds"]


@dataclass(frozen=True)
class Request:
    """The keys that choose a task, checked together before anything is loaded.

    Raises:
        ConfigError: a value out of range, or keys of different tasks.
    """

    init: str | None = None
    mask: str | None = None
    between: list[int | str] | None = None
    strength: float | None = None
    resample: int | None = None
    jump: int | None = None

    def __post_init__(self) -> None:
        if self.between is not None:
            if self.init is not None or self.mask is not None:
                raise ConfigError("between: is a task of its own; leave out init and mask, or between")
            self._check_ends(self.between)
        if self.mask is not None and self.init is None:
            raise ConfigError("mask: needs a picture to paint in; set init=PATH")
        if self.strength is not None:
            if self.kind not in ("variation", "between_images"):
                raise ConfigError("strength: belongs to init=PATH without a mask or between=[PATH,PATH]; leave it out")
            if not 0 < self.strength <= 1:
                raise ConfigError(f"strength: must be above 0 and at most 1, got {self.strength}")
        for name, value in (("resample", self.resample), ("jump", self.jump)):
            if value is not None and self.kind != "inpaint":
                raise ConfigError(f"{name}: belongs to init=PATH mask=PATH; leave it out")
            if value is not None and value < 1:
                raise ConfigError(f"{name}: must be at least 1, got {value}")

    @property
    def kind(self) -> Kind:
        if self.between is not None:
            return "between_seeds" if isinstance(self.between[0], int) else "between_images"
        return "inpaint" if self.mask is not None else "variation" if self.init is not None else "plain"

    @staticmethod
    def _check_ends(ends: list[int | str]) -> None:
        if len(ends) != 2 or isinstance(ends[0], int) != isinstance(ends[1], int):
            raise ConfigError(f"between: must be two pictures or two seeds, [PATH,PATH] or [3,17], got {ends}")
        if any(isinstance(end, int) and end < 0 for end in ends):
            raise ConfigError(f"between: seeds must be at least 0, got {ends}")


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
