"""The output folder of `ddpm sample`."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..files import write_sealed
from ..ours import check_folder, claim, complete
from ..render.files import write_images, write_npz, write_png
from ..render.heading import headed, headings
from ..render.pixels import BACKGROUND, EDGE, columns_by_class, default_scale, enlarge, grid, layout
from ..runs.checkpoint import digest

LONG_ROW = 12
AT_LEAST = 400
"""Pixels that a picture is wide, as far as its tiles can be enlarged by a whole number."""


class SampleFolder:
    """grid.png, images/, samples.npz, the inputs of a task and sample.json.

    sample.json is written last: if it exists, the folder is complete.

    Raises:
        ConfigError: the folder has files, and none of them is ours.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.facts = folder / "sample.json"
        check_folder(folder, "sample.json", "out")

    def begin(self, n: int, inputs: Collection[str] = ()) -> None:
        """Prepare the folder for n images; those of an earlier call are removed, unless they are drawn again.

        Raises:
            ConfigError: a file that would be replaced is not ours.
        """
        names = ["grid.png", "samples.npz", "sample.json", *(f"{name}.png" for name in inputs)]
        claim(self.folder, [*names, *(f"images/{i:06d}.png" for i in range(n))], "sample.json", "out")
        self.facts.unlink(missing_ok=True)
        (self.folder / "images").mkdir(parents=True, exist_ok=True)

    def add(self, first: int, pixels: Tensor) -> None:
        """Write images (B,C,H,W) uint8, of which the first one has the index `first`."""
        write_images(self.folder / "images", pixels, first)

    def finish(
        self,
        pixels: Tensor,
        labels: Tensor | None,
        columns: int | None,
        facts: Mapping[str, Any],
        inputs: Mapping[str, Tensor] | None = None,
        units: Tensor | None = None,
    ) -> None:
        """Write what `begin` and `add` have not written yet.

        Args:
            pixels: (N,C,H,W) uint8.
            units: the same images in other units, for samples.npz.
            inputs: the input pictures of the task, (1,C,H,W) uint8 each, by name; also shown in the grid.
        """
        inputs = inputs or {}
        for i in range(len(pixels)):
            if not (self.folder / "images" / f"{i:06d}.png").exists():
                self.add(i, pixels[i : i + 1])
        write_npz(self.folder / "samples.npz", pixels if units is None else units, labels)
        for name, image in inputs.items():
            write_png(self.folder / f"{name}.png", image[0].permute(1, 2, 0).numpy())
        write_png(self.folder / "grid.png", picture_of_samples(pixels, columns, inputs, facts.get("classes"), labels))
        write_sealed(self.facts, {**facts, "samples_sha256": digest(self.folder / "samples.npz")})
        complete(self.folder)


def picture_of_samples(
    pixels: Tensor,
    columns: int | None,
    inputs: Mapping[str, Tensor],
    names: Sequence[str] | None = None,
    labels: Tensor | None = None,
) -> np.ndarray:
    """The grid (H,W,C), with the inputs, (1,C,H,W) each, in a row above it.

    The names of the images' classes are above the columns if each column is one class. The second end of an
    interpolation is at the end of the row of inputs, above the last image when these fill one row.

    Args:
        names: of the class of each image; labels: its number.
    """
    classes = None if names is None or labels is None else headings(names, labels.tolist())
    scale = _scale(pixels, columns)
    columns = layout(len(pixels), columns)
    if not inputs:
        return headed(enlarge(grid(pixels, columns, background=EDGE), scale), classes, columns, scale)
    columns = max(columns, len(inputs))
    row = torch.full((columns, *pixels.shape[1:]), EDGE, dtype=torch.uint8)
    for i, (name, image) in enumerate(inputs.items()):
        row[-1 if name == "input_other" else i] = image[0]
    above, below = (enlarge(grid(images, columns, background=EDGE), scale) for images in (row, padded(pixels, columns)))
    gap = np.full((scale + 8, *above.shape[1:]), BACKGROUND, np.uint8)
    return np.concatenate([above, gap, headed(below, classes, columns, scale)])


def _scale(pixels: Tensor, columns: int | None) -> int:
    """The size of one pixel of the model: tiles are legible, and few of them are larger."""
    width = pixels.shape[-1] * layout(len(pixels), columns)
    return max(default_scale(*pixels.shape[-2:]), AT_LEAST // width)


def padded(pixels: Tensor, columns: int) -> Tensor:
    """Pixels (N',C,H,W), padded to at least one full row, so that all grids with `columns` are equally wide."""
    missing = max(columns - len(pixels), 0)
    return torch.cat([pixels, torch.full((missing, *pixels.shape[1:]), EDGE, dtype=torch.uint8)])


def columns_of_samples(labels: Tensor | None, n: int, interpolated: bool) -> int | None:
    """The number of images per row of the grid; None = nearly square. A short interpolation is kept in one row."""
    return n if interpolated and n <= LONG_ROW else columns_by_class(labels)
