"""Standard normal noise per image, independent of the batch."""

from collections.abc import Sequence

import torch
from torch import Tensor


class ImageNoise:
    """One random stream per image: image i gets the same noise in every batch, on every device and in every process.

    The noise is drawn on the host, because generators on devices give different numbers on different hardware.
    """

    def __init__(self, seeds: Sequence[int]):
        self.generators = [torch.Generator().manual_seed(seed % 2**63) for seed in seeds]

    def first(self, shape: Sequence[int], device: torch.device | str) -> Tensor:
        """The x_T of every image, (B, *shape) float32."""
        return self._draw(shape, torch.float32, torch.device(device))

    def __call__(self, like: Tensor) -> Tensor:
        """The next noise of every image, like (B,C,H,W)."""
        return self._draw(like.shape[1:], like.dtype, like.device)

    def _draw(self, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
        pinned = device.type == "cuda"  # so that the copy is asynchronous
        out = torch.empty(len(self.generators), *shape, dtype=dtype, pin_memory=pinned)
        for row, generator in zip(out, self.generators, strict=True):
            row.normal_(generator=generator)
        return out.to(device, non_blocking=pinned)
