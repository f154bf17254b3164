"""The output folder of `ddpm sample`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError
from ..files import write_json
from ..render.files import write_images, write_npz, write_png
from ..render.pixels import BACKGROUND, columns_by_class, default_scale, enlarge, grid, layout

INPUTS = ("input", "input_other", "masked")
LONG_ROW = 12


class SampleFolder:
    """grid.png, images/, samples.npz, the inputs of a task and sample.json.

    sample.json is written last: if it exists, the folder is complete.

    Raises:
        ConfigError: the folder contains other files.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.facts = folder / "sample.json"
        if folder.is_dir() and any(folder.iterdir()) and not self._is_ours():
            raise ConfigError(f"out: {folder} has other files; name an empty or new folder")

    def write(
        self,
        pixels: Tensor,
        labels: Tensor | None,
        columns: int | None,
        facts: Mapping[str, Any],
        inputs: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Write all files; they replace the samples of an earlier call.

        Args:
            pixels: (N,C,H,W) uint8.
            inputs: the input pictures of the task, (1,C,H,W) uint8 each, by name; also shown in the grid.
        """
        self.facts.unlink(missing_ok=True)
        images, inputs = self.folder / "images", inputs or {}
        images.mkdir(parents=True, exist_ok=True)
        for old in [*images.glob("*.png"), *(self.folder / f"{name}.png" for name in INPUTS)]:
            old.unlink(missing_ok=True)
        write_images(images, pixels)
        write_npz(self.folder / "samples.npz", pixels, labels)
        for name, image in inputs.items():
            write_png(self.folder / f"{name}.png", image[0].permute(1, 2, 0).numpy())
        write_png(self.folder / "grid.png", picture_of_samples(pixels, columns, inputs))
        write_json(self.facts, facts)

    def _is_ours(self) -> bool:
        ours = {"grid.png", "images", "samples.npz", "sample.json", *(f"{name}.png" for name in INPUTS)}
        return all(p.name in ours for p in self.folder.iterdir())


def picture_of_samples(pixels: Tensor, columns: int | None, inputs: Mapping[str, Tensor]) -> np.ndarray:
    """The grid (H,W,C), with the inputs, (1,C,H,W) each, in a row above it.

    The second end of an interpolation is at the end of that row, above the last image when these fill one row.
    """
    scale = default_scale(*pixels.shape[-2:])
    if not inputs:
        return enlarge(grid(pixels, columns), scale)
    columns = max(layout(len(pixels), columns), len(inputs))
    row = torch.full((columns, *pixels.shape[1:]), BACKGROUND, dtype=torch.uint8)
    for i, (name, image) in enumerate(inputs.items()):
        row[-1 if name == "input_other" else i] = image[0]
    above, below = (enlarge(grid(images, columns), scale) for images in (row, padded(pixels, columns)))
    gap = np.full((scale + 8, *above.shape[1:]), BACKGROUND, np.uint8)
    return np.concatenate([above, gap, below])


def padded(pixels: Tensor, columns: int) -> Tensor:
    """Pixels (N',C,H,W), padded to at least one full row, so that all grids with `columns` are equally wide."""
    missing = max(columns - len(pixels), 0)
    return torch.cat([pixels, torch.full((missing, *pixels.shape[1:]), BACKGROUND, dtype=torch.uint8)])


def columns_of_samples(labels: Tensor | None, n: int, interpolated: bool) -> int | None:
    """The number of images per row of the grid; None = nearly square. A short interpolation is kept in one row."""
    return n if interpolated and n <= LONG_ROW else columns_by_class(labels)
