"""Converts pictures and arrays to uint8 (C,H,W), and splits them into training and held-out pictures."""

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn.functional import interpolate

from .survey import BYTE, WORD, Ends, is_deep, is_word, values_of

DECODING = 2
"""Version of the pixels that `picture` makes of a file: raise it with any change, so that older caches are not used."""
_SPLIT_SEED = 20200619  # fixed, so that every run holds out the same pictures, whatever its seed


def picture(
    image: Image.Image,
    height_width: tuple[int, int],
    channels: int,
    crop: bool = True,
    ends: Ends | None = None,
    everywhere: bool = False,
) -> np.ndarray:
    """One opened picture of any mode -> (C,H,W) uint8.

    It is turned upright according to its EXIF orientation, transparent parts become white, values with more than 8 bits
    are scaled. Then it is cropped in the middle to the target aspect ratio (stretched, without `crop`) and resized with
    antialiasing.

    Args:
        ends, everywhere: see `flatten`.

    Raises:
        whatever Pillow raises on a file that it cannot decode (OSError, SyntaxError, ValueError, ...).
    """
    height, width = height_width
    # JPEG can be decoded at 1/2, 1/4 or 1/8; twice the target size leaves the rest to the better filter below
    image.draft(None, (2 * max(height, width), 2 * max(height, width)))
    image.load()
    flat = flatten(_upright(image), channels, ends=ends, everywhere=everywhere)
    if flat.size != (width, height):
        if crop:
            flat = ImageOps.fit(flat, (width, height), Image.Resampling.LANCZOS)
        else:
            flat = flat.resize((width, height), Image.Resampling.LANCZOS)
    array = np.asarray(flat)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # Pillow raises many types on broken EXIF; the pixels are intact, so keep their orientation
        return image


def flatten(
    image: Image.Image, channels: int, behind: str = "white", ends: Ends | None = None, everywhere: bool = False
) -> Image.Image:
    """Any mode -> L or RGB, 8 bits.

    Args:
        behind: the background colour of transparent parts.
        ends: the values of a picture with more than 8 bits that become 0 and 255; None = the range of its format, or
            its own smallest and largest value.
        everywhere: use `ends` for 8-bit pictures too.
    """
    if is_deep(image):
        values = values_of(image)
        finite = values[np.isfinite(values)]
        own = (float(finite.min()), float(finite.max())) if finite.size else BYTE
        image = Image.fromarray(_scaled(values, ends or (WORD if is_word(image) else own)))
    elif image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, behind), rgba)
    elif everywhere and ends is not None:
        plain = image.convert("L" if channels == 1 else "RGB")
        return Image.fromarray(_scaled(np.asarray(plain).astype(np.float64), ends))
    return image.convert("L" if channels == 1 else "RGB")


def _scaled(values: np.ndarray, ends: Ends) -> np.ndarray:
    """`values`, with `ends` mapped to 0 and 255, as uint8; values that are no numbers become 0."""
    low, high = ends
    scale = 255 / (high - low) if high > low else 0.0
    return np.nan_to_num((values - low) * scale, nan=0.0).round().clip(0, 255).astype(np.uint8)


def fit(pixels: Tensor, height_width: tuple[int, int], channels: int) -> Tensor:
    """(N,1|3,h,w) uint8 -> (N,channels,H,W) uint8: ITU-R 601 grey like Pillow's, antialiased bicubic, stretched."""
    if channels == 1 and pixels.shape[1] == 3:
        red, green, blue = pixels.to(torch.int32).unbind(1)
        pixels = ((red * 19595 + green * 38470 + blue * 7471 + 32768) >> 16).to(torch.uint8)[:, None]
    if tuple(pixels.shape[2:]) != height_width and len(pixels):
        parts = [_resize(part, height_width) for part in pixels.split(4096)]  # parts limit the memory of the float copy
        pixels = torch.cat(parts)
    elif not len(pixels):
        pixels = pixels.new_empty((0, pixels.shape[1], *height_width))
    return pixels.expand(-1, channels, -1, -1)


def _resize(pixels: Tensor, height_width: tuple[int, int]) -> Tensor:
    resized = interpolate(pixels.float(), height_width, mode="bicubic", antialias=True)
    return resized.round_().clamp_(0, 255).to(torch.uint8)


def split_indices(n: int, fraction: float, held_out: bool, seed: int | None = None) -> Tensor:
    """The (M,) int64 ascending indices of the held-out (or the remaining) pictures of n.

    A fixed shuffle decides, never the training seed. With `seed`, it is the split of torch.utils.data.random_split with
    a generator of that seed, whose last pictures are held out. Of two or more pictures, at least one is held out if
    fraction > 0 and at least one remains; a single picture is never held out.
    """
    held = min(max(round(n * fraction), 1), n - 1) if n > 1 and fraction > 0 else 0
    if seed is not None:
        order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
        return (order[n - held :] if held_out else order[: n - held]).sort().values
    shuffled = np.random.default_rng([_SPLIT_SEED, n]).permutation(n)
    return torch.from_numpy(np.sort(shuffled[:held] if held_out else shuffled[held:]))
