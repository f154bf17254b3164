"""The folder that `ddpm sample` fills."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import ConfigError
from ..files import write_json
from ..render.files import write_images, write_npz, write_png
from ..render.pixels import enlarge, grid, suited_scale


class SampleFolder:
    """grid.png, images/, samples.npz and, last of all, sample.json: where it is, everything is there.

    Raises:
        ConfigError: the folder has files of something else.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.facts = folder / "sample.json"
        if folder.is_dir() and any(folder.iterdir()) and not self._is_ours():
            raise ConfigError(f"out: {folder} has other files; name an empty or a new folder")

    def write(self, pixels: Tensor, labels: Tensor | None, columns: int | None, facts: Mapping[str, Any]) -> None:
        """pixels (N,C,H,W) uint8. Samples of an earlier call are replaced."""
        self.facts.unlink(missing_ok=True)
        images = self.folder / "images"
        images.mkdir(parents=True, exist_ok=True)
        for old in images.glob("*.png"):
            old.unlink()
        write_images(images, pixels)
        write_npz(self.folder / "samples.npz", pixels, labels)
        write_png(self.folder / "grid.png", enlarge(grid(pixels, columns), suited_scale(*pixels.shape[-2:])))
        write_json(self.facts, facts)

    def _is_ours(self) -> bool:
        return all(p.name in ("grid.png", "images", "samples.npz", "sample.json") for p in self.folder.iterdir())
