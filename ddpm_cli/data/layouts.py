"""How torchvision stores its datasets on disk: which files exist, what a download fetches, and how to read them.

`dataset` is always the class in `torchvision.datasets` (untyped there), `train` the official split.
"""

import warnings
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import DataError
from ..progress import Progress
from .download import Files, fetch, matches
from .idx import find_idx, read_idx


class Arrays(NamedTuple):
    """pixels (N,C,H,W) uint8; labels (N,) integers; class names as torchvision spells them."""

    pixels: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]


class Layout(ABC):
    """One official split of one dataset below `root`."""

    def __init__(self, dataset: Any, root: Path, train: bool):
        self.dataset, self.root, self.train = dataset, root, train

    @abstractmethod
    def files(self) -> Files:
        """The files that a download would fetch."""

    @abstractmethod
    def present(self) -> bool:
        """Whether everything that `read` needs is on disk."""

    def unpackable(self) -> bool:
        """Whether `download` would only unpack an archive that is already on disk."""
        return False

    def download(self) -> None:
        """torchvision's own download, verification and unpacking."""
        self.dataset(str(self.root), train=self.train, download=True)


def obtain(layout: Layout, root: Path, download: bool, progress: Progress | None) -> None:
    """Download or unpack the dataset unless it is on disk.

    Raises:
        DataError, StorageError: see `fetch`; also DataError when it is missing and `download` is False.
    """
    if layout.present():
        return
    files = layout.files()
    unpackable = layout.unpackable()
    if not download and not unpackable:
        if (damaged := files.damaged()) is not None:
            raise DataError(f"{damaged}: is damaged or another file; remove it, then {files.advice}")
        raise DataError(f"{root}: has no {files.title}; {files.advice} or set dataset.download=true")
    fetch(layout.download, files, root, progress, "unpacking" if unpackable else "downloading")


class ArrayLayout(Layout):
    """A split stored as whole arrays."""

    @abstractmethod
    def read(self) -> Arrays:
        """The split's pictures and labels. Raises DataError, or whatever the reader raises on a damaged file."""


class Idx(ArrayLayout):
    """MNIST and FashionMNIST: ROOT/NAME/raw/*-ubyte, or the .gz beside them, read without unpacking."""

    @property
    def _raw(self) -> Path:
        return self.root / self.dataset.__name__ / "raw"

    def _paths(self) -> list[Path]:
        prefix = "train" if self.train else "t10k"
        return [self._raw / f"{prefix}-images-idx3-ubyte", self._raw / f"{prefix}-labels-idx1-ubyte"]

    def files(self) -> Files:
        archives = [(self._raw / name, md5) for name, md5 in self.dataset.resources]
        unpacked = [(path.with_suffix(""), None) for path, _ in archives]  # torchvision has no MD5 of them
        names = [path.name for path, _ in archives]
        return Files(self.dataset.__name__, self._raw, names, [*archives, *unpacked])

    def present(self) -> bool:
        return all(find_idx(path) for path in self._paths())

    def read(self) -> Arrays:
        pictures, labels = (find_idx(path) or path for path in self._paths())
        arrays = Arrays(read_idx(pictures, 3)[:, None], read_idx(labels, 1), tuple(self.dataset.classes))
        if len(arrays.pixels) != len(arrays.labels):
            counts = f"has {len(arrays.labels):,} labels but {pictures.name} has {len(arrays.pixels):,} pictures"
            raise DataError(f"{labels}: {counts}; remove both and run again")
        return arrays


class Cifar(ArrayLayout):
    """CIFAR10 and CIFAR100: ROOT/cifar-10-batches-py/*, pickles that torchvision reads only if their MD5 matches."""

    def files(self) -> Files:
        base = self.root / self.dataset.base_folder
        meta = [(self.dataset.meta["filename"], self.dataset.meta["md5"])]
        batches = [(base / name, md5) for name, md5 in [*self.dataset.train_list, *self.dataset.test_list, *meta]]
        archive = self.root / self.dataset.filename
        return Files(self.dataset.__name__, self.root, [archive.name], [(archive, self.dataset.tgz_md5), *batches])

    def present(self) -> bool:
        return all(path.is_file() for path, _ in self.files().written[1:])

    def unpackable(self) -> bool:
        return matches(self.root / self.dataset.filename, self.dataset.tgz_md5)

    def read(self) -> Arrays:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the pickles are from 2009; NumPy deprecates how they spell a dtype
            data = self.dataset(str(self.root), train=self.train)
        return Arrays(data.data.transpose(0, 3, 1, 2), np.asarray(data.targets), tuple(data.classes))


class Svhn(ArrayLayout):
    """SVHN: ROOT/train_32x32.mat and ROOT/test_32x32.mat."""

    @property
    def _split(self) -> str:
        return "train" if self.train else "test"

    def files(self) -> Files:
        _, name, md5 = self.dataset.split_list[self._split]
        return Files(self.dataset.__name__, self.root, [name], [(self.root / name, md5)])

    def present(self) -> bool:
        return self.files().written[0][0].is_file()

    def download(self) -> None:
        self.dataset(str(self.root), split=self._split, download=True)

    def read(self) -> Arrays:
        data = self.dataset(str(self.root), split=self._split)
        return Arrays(data.data, data.labels, tuple("0123456789"))
