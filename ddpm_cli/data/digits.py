"""scikit-learn's 1,797 handwritten 8x8 digits: real data that needs no download."""

from dataclasses import dataclass

import numpy as np
import torch

from .images import Images, Progress
from .source import Source, Split


@dataclass(frozen=True)
class Digits(Source):
    """The digits 0 to 9, 8x8 grey levels 0..16 scaled to 0..255; other sizes are resized. `root` is not used.

    Raises:
        ValueError: a field out of range, named first.
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
            raise ValueError("val_fraction: must be a number, the digits have no official test pictures")

    def load(self, split: Split, progress: Progress | None = None) -> Images:
        """The training or the held-out digits. Nothing is slow enough to report to `progress`.

        Raises:
            DataError: test pictures are asked for: there are none.
        """
        from sklearn.datasets import load_digits  # a second to import

        digits = load_digits()
        chosen = self.chosen(len(digits.images), split)
        pixels = torch.from_numpy(np.round(digits.images * 255 / 16).astype(np.uint8))[:, None]
        labels = torch.from_numpy(digits.target.astype(np.int64))
        return self.pack(pixels[chosen], labels[chosen], [str(d) for d in range(10)], split)
