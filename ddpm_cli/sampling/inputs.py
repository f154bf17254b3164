"""Reads the pictures and masks that a request names, in the model's size and format."""

import logging
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
from ..data.formats import lacking_package, opened
from ..data.images import to_float
from ..data.survey import BYTE, Values, is_deep, is_word, values_of
from ..errors import DataError

T = TypeVar("T")
CLIPPED = 0.1
"""The share of a picture outside the values of the run, or without a number, from which on that is said."""
FLAT = 0.02
"""The share of the values of the run that a picture should at least use."""
OF_BYTES = Values(BYTE)
"""Of a run whose pictures have 8 bits."""
log = logging.getLogger(__name__)
NEAR, PLAIN = 40, 0.9
"""A shade this near to black or white counts as such; a drawing has one of them in at least this share of it."""


def picture_of(path: str, shape: tuple[int, ...], key: str, values: Values) -> Tensor:
    """The picture at `path`, resized and cropped to the model's shape, (1,C,H,W) in [-1, 1].

    Args:
        values: the run's own, so that the picture is as bright as its training pictures were.

    Raises:
        DataError: it is missing or unreadable.
    """
    channels, height, width = shape

    def convert(image: Image.Image) -> np.ndarray:
        ends = None if values == OF_BYTES and is_word(image) else values.ends  # whose full range is not that of bytes
        converted = picture(image, (height, width), channels, ends=ends, everywhere=values.everywhere)
        for line in unlike(image, Values(ends, values.everywhere)):
            log.warning("%s: %s %s", key, path, line)
        return converted

    array = _read(path, key, convert)
    return to_float(torch.from_numpy(np.array(array))[None])


def unlike(image: Image.Image, values: Values) -> Iterator[str]:
    """A line if the picture has other values than those between the black and the white of the run."""
    if not (is_deep(image) or (values.everywhere and values.ends is not None)):
        return
    found = values_of(image) if is_deep(image) else np.asarray(image.convert("L"), dtype=np.float64)
    finite = found[np.isfinite(found)]
    if finite.size < (1 - CLIPPED) * found.size:
        lost = f"{found.size - finite.size:,} of {found.size:,} values"
        yield f"has {lost} that are no numbers (NaN or infinite); use another picture"
    if values.ends is None or not finite.size:
        return
    low, high, least, most = *values.ends, float(finite.min()), float(finite.max())
    below, above = float((finite < low).mean()), float((finite > high).mean())
    if below + above > CLIPPED:
        becomes = " and ".join(f"{n:.0%} of it {shade}" for n, shade in ((below, "black"), (above, "white")) if n)
    elif least < most and most - least < FLAT * (high - low):
        becomes = "nearly all of it of one shade"
    else:
        return
    yield (
        f"has values from {least:g} to {most:g}, which makes {becomes}: the pictures of the run were scaled from "
        f"{low:g} (black) to {high:g} (white); scale its values in the same way"
    )


def mask_of(path: str, init: str, shape: tuple[int, ...]) -> Tensor:
    """Where to repaint, (1,1,H,W) bool: see `marked`; resized and cropped like the picture at `init`.

    A pixel of the model is repainted when any part of it is marked, so that nothing marked for repainting remains.

    Raises:
        DataError: it is missing or unreadable, has other proportions than the picture, or is all of one colour.
    """
    _, height, width = shape

    def convert(image: Image.Image) -> tuple[np.ndarray, str]:
        area, how = marked(ImageOps.exif_transpose(image))
        white = Image.fromarray(np.where(area, 255, 0).astype(np.float32))
        return np.asarray(ImageOps.fit(white, (width, height), Image.Resampling.BOX)) > 0.5, how

    mask_w, mask_h = _read(path, "mask", _size)
    init_w, init_h = _read(init, "init", _size)
    if abs(mask_w * init_h - mask_h * init_w) > max(mask_w, mask_h, init_w, init_h):  # tolerates rounding by a pixel
        raise DataError(
            f"mask: {path} is {mask_w}x{mask_h}, but init is {init_w}x{init_h}; draw the mask on a copy of init"
        )
    area, how = _read(path, "mask", convert)
    white = torch.from_numpy(np.array(area))[None, None]
    if not white.any():
        raise DataError(f"mask: {path} has no white; paint the area to repaint white")
    if white.all():
        raise DataError(f"mask: {path} is completely white at {width}x{height}; leave the area to keep black")
    log.info("mask: %s is repainted", how)
    return white


def marked(image: Image.Image) -> tuple[np.ndarray, str]:
    """The area of a mask to repaint, (H,W) bool, and a name for it.

    Of a picture with transparent parts it is the drawing, if what is not transparent is all white or all black, and
    otherwise the hole: the transparent part. Of any other picture it is the light part, from half of white on.
    """
    if image.has_transparency_data:
        rgba = np.asarray(image.convert("RGBA"))
        solid = rgba[..., 3] >= 128
        if solid.any() and not solid.all():
            shade = np.asarray(image.convert("RGBA").convert("RGB").convert("L"))[solid].astype(int)
            dark, light = (shade <= NEAR).mean(), (shade >= 255 - NEAR).mean()
            if max(dark, light) >= PLAIN:
                return solid, f"what is {'black' if dark > light else 'white'}"
            return ~solid, "the transparent part"
    grey = np.asarray(flatten(image, 1, behind="black"))
    between = ((grey > NEAR) & (grey < 255 - NEAR)).mean()
    return grey >= 128, "the part from half of white on" if between > 1 - PLAIN else "the white part"


def _size(image: Image.Image) -> tuple[int, int]:
    return ImageOps.exif_transpose(image).size


def _read(path: str, key: str, convert: Callable[[Image.Image], T]) -> T:
    if not Path(path).is_file():
        raise DataError(f"{key}: there is no file {path}; check the path")
    with _readable(path, key), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with opened(Path(path)) as image:
            if (pages := getattr(image, "n_frames", 1)) > 1:
                log.info("%s: %s has %d pages; the first is used", key, path, pages)
            return convert(image)


@contextmanager
def _readable(path: str, key: str) -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # Pillow can raise almost anything for a damaged file
        reason = lacking_package(Path(path)) or "use PNG, JPEG or another common format"
        raise DataError(f"{key}: {path} is not a readable picture; {reason}") from error
