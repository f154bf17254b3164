"""Random augmentation of training images, a whole batch at a time on its device."""

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from .base import Random

TRIES = 10
"""Attempts to draw a crop that fits into the image, as in torchvision."""


def random_resized_crop(x: Tensor, rng: Random, scale: tuple[float, float], ratio: tuple[float, float]) -> Tensor:
    """A random crop of each image (B,C,H,W), resized to (H, W) by bilinear interpolation.

    The distribution is that of torchvision's RandomResizedCrop, without its rounding to whole pixels: area uniform in
    `scale` (as a fraction of the image), ln(width / height) uniform in ln `ratio`, redrawn until the crop fits, then a
    uniform position. If none of `TRIES` fits, the largest central crop whose width / height is in `ratio`.
    """
    height, width = x.shape[-2:]
    u = rng.uniform(2 * TRIES + 2)
    area = scale[0] + (scale[1] - scale[0]) * u[:, :TRIES]
    low, high = math.log(ratio[0]), math.log(ratio[1])
    # width / height of the crop, both as fractions of the image's
    aspect = torch.exp(low + (high - low) * u[:, TRIES : 2 * TRIES]) * (height / width)
    wide, tall = (area * aspect).sqrt(), (area / aspect).sqrt()
    fits = (wide <= 1) & (tall <= 1)
    any_fits, first = fits.any(1), fits.int().argmax(1, keepdim=True)
    squeeze = min(max(width / height, ratio[0]), ratio[1]) * height / width
    w = torch.where(any_fits, wide.gather(1, first)[:, 0], min(1.0, squeeze))
    h = torch.where(any_fits, tall.gather(1, first)[:, 0], min(1.0, 1 / squeeze))
    left, top = ((1 - size) * torch.where(any_fits, v, 0.5) for size, v in ((w, u[:, -2]), (h, u[:, -1])))
    return crop_and_resize(x, left, top, w, h)


def crop_and_resize(x: Tensor, left: Tensor, top: Tensor, w: Tensor, h: Tensor) -> Tensor:
    """Crop each image at `left`, `top` with size `w`, `h`, all (B,) fractions of the image, and resize it to (H, W)."""
    zero = torch.zeros_like(w)
    # in affine_grid the centre of the image is 0 and its borders are -1 and 1
    across = torch.stack([w, zero, 2 * left + w - 1], 1)
    down = torch.stack([zero, h, 2 * top + h - 1], 1)
    grid = F.affine_grid(torch.stack([across, down], 1), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


def check_crop(scale: tuple[float, float] | None, ratio: tuple[float, float]) -> None:
    """Raises ValueError, naming the field, unless both are valid intervals."""
    if scale is not None and not 0 < scale[0] <= scale[1] <= 1:
        raise ValueError(f"crop_scale: must be [low, high] with 0 < low <= high <= 1, or null, got {list(scale)}")
    if not 0 < ratio[0] <= ratio[1]:
        raise ValueError(f"crop_ratio: must be [low, high] with 0 < low <= high, got {list(ratio)}")
