"""Samples: their pixels, classes, and how they were drawn."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..progress import plural
from ..render.files import png_bytes
from .folder import SampleFolder, columns_of_samples, picture_of_samples

Dtype = Literal["uint8", "uint16", "float32"]


def in_units(images: Tensor, ends: tuple[float, float], dtype: Dtype) -> Tensor | None:
    """Images in [-1, 1] as stored values, of which `ends` are black and white; None for uint8."""
    if dtype == "uint8":
        return None
    low, high = ends
    values = low + (images.double().cpu().clamp(-1, 1) + 1) / 2 * (high - low)
    if dtype == "float32":
        return values.float()
    return values.round().clamp(0, 65535).to(torch.int32).to(torch.uint16)


@dataclass(frozen=True, eq=False)
class Samples:
    """
    Args:
        images: (N,C,H,W) uint8 on the host.
        units: (N,C,H,W) uint16 or float32, the same images in the units of the training pictures; or None.
        classes: (N,) int64, or None.
        seeds: one per image; None for an interpolation between two seeds.
        facts: the content of sample.json.
        inputs: the input pictures, (1,C,H,W) uint8, by the name of their file.
        interpolated: whether the images are an interpolation.
    """

    images: Tensor
    classes: Tensor | None
    seeds: list[int] | None
    facts: dict[str, Any]
    inputs: Mapping[str, Tensor] = field(default_factory=dict)
    interpolated: bool = False
    units: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        channels, height, width = self.images.shape[1:]
        return f"<{plural(len(self), 'sample')} of {height}x{width}x{channels}, {self.facts.get('checkpoint', '')}>"

    @property
    def pixels(self) -> np.ndarray:
        """(N,H,W,C) uint8, a copy."""
        return self.images.permute(0, 2, 3, 1).contiguous().numpy().copy()

    @property
    def labels(self) -> np.ndarray | None:
        """(N,) int64, the class of each image."""
        return None if self.classes is None else self.classes.numpy().copy()

    @property
    def columns(self) -> int | None:
        """The number of images per row of the grid; None = nearly square."""
        return columns_of_samples(self.classes, len(self), self.interpolated)

    def grid(self) -> np.ndarray:
        """All images in one picture, (H,W,C) uint8, as in grid.png."""
        return picture_of_samples(self.images, self.columns, self.inputs, self.facts.get("classes"), self.classes)

    def save(self, folder: str | Path) -> Path:
        """grid.png, images/, samples.npz and sample.json, as `ddpm sample` writes them. Returns the folder.

        Raises:
            ConfigError: the folder contains other files.
            OSError: it cannot be written.
        """
        output = SampleFolder(Path(folder))
        output.begin(len(self), self.inputs)
        output.add(0, self.images)
        output.finish(self.images, self.classes, self.columns, self.facts, self.inputs, self.units)
        return output.folder

    def _repr_png_(self) -> bytes:
        """The grid for display in notebooks."""
        return png_bytes(self.grid())
