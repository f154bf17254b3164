"""MNIST, Fashion-MNIST, CIFAR-10, CIFAR-100 and SVHN through torchvision, in the folders that torchvision uses."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch

from ..errors import DataError, DdpmError
from ..progress import Progress
from .images import Images
from .layouts import ArrayLayout, Arrays, Cifar, Idx, Svhn, obtain
from .source import Source, Split


class Facts(NamedTuple):
    """What differs between the datasets.

    title: the class in torchvision.datasets; names: class names, if torchvision's are awkward ("0 - zero").
    """

    title: str
    layout: type[ArrayLayout]
    classes: int
    names: tuple[str, ...] | None = None


FACTS = {
    "mnist": Facts("MNIST", Idx, 10, tuple("0123456789")),
    "fashion_mnist": Facts("FashionMNIST", Idx, 10),
    "cifar10": Facts("CIFAR10", Cifar, 10),
    "cifar100": Facts("CIFAR100", Cifar, 100),
    "svhn": Facts("SVHN", Svhn, 10),
}


@dataclass(frozen=True)
class TorchvisionSet(Source):
    """The dataset `name`, one of `FACTS`, below `root` in torchvision's layout.

    Existing files are used as they are; missing ones are downloaded once.

    Args:
        download: False never uses the network.

    Raises:
        ValueError: a field is out of range; the message starts with its name.
    """

    download: bool = True

    has_test: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name not in FACTS:
            raise ValueError(f"name: must be one of {', '.join(FACTS)}, got {self.name!r}")
        self.require_classes(FACTS[self.name].classes)

    def load(self, split: Split, progress: Progress | None = None) -> Images:
        """The training, validation or official test pictures. With val_fraction=None, val is the test pictures.

        Raises:
            DataError: the files are missing and cannot be downloaded, or are damaged.
            StorageError: a download cannot be written.
        """
        from torchvision import datasets  # a second to import

        facts, root = FACTS[self.name], self.folder()
        official_train = split == "train" or (split == "val" and self.val_fraction is not None)
        layout = facts.layout(getattr(datasets, facts.title), root, official_train)
        obtain(layout, root, self.download, progress)
        arrays = _read(layout, root)
        pixels, labels = torch.from_numpy(arrays.pixels), torch.from_numpy(arrays.labels.astype(np.int64))
        if official_train and self.val_fraction is not None:
            chosen = self.chosen(len(pixels), split)
            pixels, labels = pixels[chosen], labels[chosen]
        return self.pack(pixels, labels, facts.names or arrays.names, split)


def _read(layout: ArrayLayout, root: Path) -> Arrays:
    try:
        return layout.read()
    except (DdpmError, MemoryError):
        raise
    except Exception as error:  # a damaged pickle or .mat can raise almost anything
        culprit = layout.files().damaged() or root
        reason = " ".join(str(error).split())
        raise DataError(f"{culprit}: is damaged ({reason}); remove it and run again") from error
