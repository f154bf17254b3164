"""The real images of a run: the data set that it was trained on, read again."""

from collections.abc import Collection, Mapping
from typing import Any, Protocol

import torch

from ..build import build
from ..data.images import Images
from ..data.source import Split
from ..errors import DataError
from ..progress import Progress


class TrainedOn(Protocol):
    """What a run tells of its data: its config, which packages that may name, and the shape (C,H,W)."""

    @property
    def config(self) -> Mapping[str, Any]: ...

    @property
    def trusted(self) -> Collection[str]: ...

    @property
    def shape(self) -> tuple[int, ...]: ...


def held_out(run: TrainedOn, root: str | None, split: Split, n: int | None, seed: int, progress: Progress) -> Images:
    """`n` pictures of that part of the run's data set, drawn with `seed`; all when there are no more or n is None.

    They keep their order, so that all of them are the same whatever the seed.

    Raises:
        DataError: there are none, or they have another shape than the model's.
    """
    images = split_of(run, root, split, progress)
    if not len(images):
        raise DataError(f"split: the data set has no {split} pictures; use split=train, or another root=FOLDER")
    return images.subset(shuffled(len(images), seed)[:n].sort().values)


def split_of(run: TrainedOn, root: str | None, split: Split, progress: Progress) -> Images:
    """All pictures of that part, there may be none. Raises DataError when they have another shape than the model's."""
    images = _source(run, root).load(split, progress)
    if len(images) and images.shape != tuple(run.shape):
        raise DataError(f"root: its pictures are {images.shape}, the model's {run.shape}; name the set it knows")
    return images


def examples(run: TrainedOn, root: str | None, n: int, seed: int, progress: Progress) -> Images:
    """At most `n` held-out pictures, drawn with `seed`; training pictures where fewer are held out."""
    source = _source(run, root)
    images: Images = source.load("val", progress)
    if len(images) < n:
        images = source.load("train", progress)
    if not len(images):
        raise DataError("dataset: has no pictures; set root=FOLDER")
    return images.subset(shuffled(len(images), seed)[:n])


def shuffled(n: int, seed: int) -> torch.Tensor:
    """(n,) int64: an order that `seed` decides."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))


def _source(run: TrainedOn, root: str | None) -> Any:
    node = dict(run.config["dataset"])
    if root is not None:
        node["root"] = root
    return build(node, "dataset", trust=run.trusted)
