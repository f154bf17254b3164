"""scikit-learn's 1,797 handwritten 8x8 digits: real data that needs no download."""

import gzip
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..progress import Progress
from .images import Images
from .source import Source, Split


@dataclass(frozen=True)
class Digits(Source):
    """The digits 0 to 9, 8x8 grey levels 0..16 scaled to 0..255, resized to `size`. `root` is ignored.

    Raises:
        ValueError: a field is out of range; the message starts with its name.
    """

    name: str = "digits"
    size: int | tuple[int, int] = 8
    channels: int = 1
    classes: int | None = 10
    val_fraction: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_classes(10)
        if self.val_fraction is None:
            raise ValueError("val_fraction: must be a number, as the digits have no official test pictures")

    def load(self, split: Split, progress: Progress | None = None) -> Images:
        """The training or the held-out digits. Loading is too fast to report to `progress`.

        Raises:
            DataError: `split` is "test": there are no official test pictures.
        """
        levels, target = _digits()
        chosen = self.chosen(len(levels), split)
        pixels = torch.from_numpy(np.round(levels * 255 / 16).astype(np.uint8))[:, None]
        labels = torch.from_numpy(target.astype(np.int64))
        return self.pack(pixels[chosen], labels[chosen], [str(d) for d in range(10)], split)


def _digits() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Grey levels (1797,8,8) and digits (1797,), read from sklearn's file, because importing sklearn takes a second."""
    package = find_spec("sklearn")
    file = Path(package.origin).parent / "datasets/data/digits.csv.gz" if package and package.origin else None
    if file is None or not file.is_file():  # sklearn moved it
        from sklearn.datasets import load_digits

        digits = load_digits()
        return digits.images, digits.target
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        table = np.loadtxt(lines, delimiter=",")
    return table[:, :-1].reshape(-1, 8, 8), table[:, -1]
