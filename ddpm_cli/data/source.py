"""The base class of every dataset: its YAML fields, their checks and its folder."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..errors import DataError
from ..progress import Progress
from ..text import PathText, home
from .convert import fit, split_indices
from .images import Images
from .mapped import Decoded

Split = Literal["train", "val", "test"]
"""train: to learn from; val: to choose between models; test: the official test pictures, for final results."""


@dataclass(frozen=True)
class Source(ABC):
    """The fields that every dataset has. Subclasses implement `load`.

    Args:
        name: a label.
        root: the folder with the data; None if no folder is needed.
        size: height and width in pixels, one number for a square or (H, W).
        channels: 1 (grey) or 3 (RGB).
        classes: the number of classes; 0 ignores the labels; None = as many as there are.
        flip: mirror training pictures left to right at random.
        val_fraction: the fraction held out of training, 0 <= f < 1, the same pictures whatever the training seed;
            None = validate on the official test pictures.
        split_seed: the seed of the shuffle (torch.randperm) that picks the held-out pictures; None = the built-in one.

    Raises:
        ValueError: a field is out of range; the message starts with its name.
    """

    name: str = ""
    root: PathText | None = None
    size: int | tuple[int, int] = 32
    channels: int = 3
    classes: int | None = None
    flip: bool = False
    val_fraction: float | None = None
    split_seed: int | None = None

    has_test: ClassVar[bool] = False
    """Whether there are official test pictures."""

    def __post_init__(self) -> None:
        sides = list(self.size) if isinstance(self.size, Sequence) else [self.size]
        if not 1 <= len(sides) <= 2 or any(type(side) is not int or side < 1 for side in sides):
            raise ValueError(f"size: must be a positive integer or [height, width], got {self.size!r}")
        if self.channels not in (1, 3):
            raise ValueError(f"channels: must be 1 or 3, got {self.channels}")
        if self.classes is not None and self.classes < 0:
            raise ValueError(f"classes: must be at least 0, got {self.classes}")
        if self.val_fraction is not None and not 0 <= self.val_fraction < 1:
            raise ValueError(f"val_fraction: must be at least 0 and less than 1, got {self.val_fraction}")
        if self.split_seed is not None and not 0 <= self.split_seed < 2**63:
            raise ValueError(f"split_seed: must be at least 0 or null, got {self.split_seed}")

    @property
    def height_width(self) -> tuple[int, int]:
        """(H, W)."""
        sides = list(self.size) if isinstance(self.size, Sequence) else [self.size]
        return sides[0], sides[-1]

    def folder(self) -> Path:
        """`root` as a path. Raises DataError if it is not set."""
        if not self.root:
            raise DataError("dataset.root: is not set; set dataset.root=FOLDER")
        return Path(home(self.root))

    @abstractmethod
    def load(self, split: Split, progress: Progress | None = None) -> Images:
        """The pictures of `split`. Raises DataError if there is no such split or it cannot be read."""

    def chosen(self, n: int, split: Split) -> Tensor:
        """The (M,) int64 ascending indices of the pictures of `split` among the n that are not official test pictures.

        Raises:
            DataError: `split` is "test".
        """
        if split == "test":
            raise DataError(f"split: {self.name} has no official test pictures; use split=val, the held-out pictures")
        return split_indices(n, self.val_fraction or 0.0, split == "val", self.split_seed)

    def pack(self, pixels: Tensor, labels: Tensor, class_names: Sequence[str], split: Split) -> Images:
        """(N,C,H,W) uint8 of any size and channels, (N,) labels -> `Images` of the configured size and channels."""
        fitted = fit(pixels, self.height_width, self.channels).contiguous()
        return self.pack_decoded(Decoded(fitted, torch.arange(len(labels))), labels, class_names, split)

    def pack_decoded(self, decoded: Decoded, labels: Tensor, class_names: Sequence[str], split: Split) -> Images:
        """`pack` for pictures that already have the right size and channels; `labels` are those of the kept ones."""
        if self.classes == 0:
            labels, class_names = torch.zeros_like(labels), ()
        flip = self.flip and split == "train"
        return Images(decoded.stored, labels, tuple(class_names), flip, decoded.rows, decoded.mapped)

    def require_classes(self, known: int) -> None:
        """Raises ValueError unless `classes` is 0, None or `known`."""
        if self.classes not in (None, 0, known):
            raise ValueError(f"classes: must be {known} or 0 (ignore the labels), got {self.classes}")
