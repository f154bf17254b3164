"""The pictures that a checkpoint is judged by."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from ..build import build
from ..data.images import Images
from ..data.source import Split
from ..errors import DataError
from ..progress import Progress


class Known(Protocol):
    """What a checkpoint tells of its data: its config, which packages that may name, and the shape (C,H,W)."""

    @property
    def config(self) -> Mapping[str, Any]: ...

    @property
    def trusted(self) -> Collection[str]: ...

    @property
    def shape(self) -> tuple[int, ...]: ...


@dataclass(frozen=True)
class DataOf:
    """`Known` of a checkpoint whose network is not needed."""

    config: Mapping[str, Any]
    trusted: Collection[str]
    shape: tuple[int, ...]


def held_out(known: Known, root: str | None, split: Split, n: int | None, seed: int, progress: Progress) -> Images:
    """`n` pictures of that part of the run's data set, drawn with `seed`; all when there are no more or n is None.

    They keep their order, so that all of them are the same whatever the seed.

    Raises:
        DataError: there are none, or they have another shape than the model's.
    """
    images = pictures_of(known, root, split, progress)
    if not len(images):
        raise DataError(f"split: the data set has no {split} pictures; use split=train, or another root=FOLDER")
    return images.subset(shuffled(len(images), seed)[:n].sort().values)


def pictures_of(known: Known, root: str | None, split: Split, progress: Progress) -> Images:
    """All pictures of that part, there may be none. Raises DataError when they have another shape than the model's."""
    node = dict(known.config["dataset"])
    if root is not None:
        node["root"] = root
    images: Images = build(node, "dataset", trust=known.trusted).load(split, progress)
    if len(images) and images.shape != tuple(known.shape):
        raise DataError(f"root: its pictures are {images.shape}, the model's {known.shape}; name the set it knows")
    return images


def shuffled(n: int, seed: int) -> torch.Tensor:
    """(n,) int64: an order that `seed` decides."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))
