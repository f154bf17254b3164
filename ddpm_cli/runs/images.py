"""The real images of a run, read from the dataset that it was trained on."""

import logging
import re
from collections.abc import Collection, Mapping
from typing import Any, Protocol

import torch

from ..build import build
from ..data.images import Images
from ..data.source import Split
from ..errors import DataError
from ..progress import Progress
from ..text import printable
from .identity import check_same_classes

log = logging.getLogger(__name__)
DEFAULT_ROOTS = (None, "data")
"""Of the shipped datasets."""
NOT_FROM_ELSEWHERE = {"cache": "auto", "download": False}


class TrainedOn(Protocol):
    """The parts of a run that locate its data.

    Its config, the trusted packages, the image shape (C,H,W), the class names, whether it was trained on this machine,
    see `origin`, the number of images it was trained on, and what else its checkpoint says about them.
    """

    @property
    def config(self) -> Mapping[str, Any]: ...

    @property
    def trusted(self) -> Collection[str]: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def class_names(self) -> tuple[str, ...]: ...

    @property
    def about(self) -> Mapping[str, Any]: ...

    @property
    def trained_here(self) -> bool: ...

    @property
    def trained_images(self) -> int | None: ...


def held_out(run: TrainedOn, root: str | None, split: Split, n: int | None, seed: int, progress: Progress) -> Images:
    """`n` random images of a split of the run's dataset, chosen by `seed`; all if there are fewer or n is None.

    They keep the order of the dataset, so that with all images the result does not depend on the seed.

    Raises:
        DataError: there are none, or their shape is not the model's.
    """
    images = split_of(run, root, split, progress)
    _warn_of_moved(run, root, split, progress)
    _say_what_changed(run, root)
    if not len(images):
        raise DataError(f"split: the dataset has no {split} images; use split=train, or another root=FOLDER")
    return images.subset(shuffled(len(images), seed)[:n].sort().values)


def _warn_of_moved(run: TrainedOn, root: str | None, split: Split, progress: Progress) -> None:
    """Log a warning if the run's rule holds out other pictures now, because there are more or fewer of them."""
    dataset, before = run.config["dataset"], run.trained_images
    folder = str(dataset.get("_target_", "")).endswith(".ImageFolder")
    by_number = dataset.get("split_rule", "shuffle") == "shuffle" or dataset.get("split_seed") is not None
    if split != "val" or not (folder and by_number) or before is None:
        return
    now = len(split_of(run, root, "train", progress))
    if before != now:
        log.warning(
            "split: the run was trained on %s pictures, and would be on %s now; its rule of the split (%s) moves "
            "pictures when their number changes, so it was trained on many of those that are held out now",
            f"{before:,}", f"{now:,}", "split_seed" if dataset.get("split_seed") is not None else "split_rule=shuffle",
        )  # fmt: skip


def _say_what_changed(run: TrainedOn, root: str | None) -> None:
    """Log a line if the folder has other pictures than the run was trained on."""
    before, fingerprint = run.about.get("data"), getattr(_source(run, root), "fingerprint", None)
    if fingerprint is None or not isinstance(before, Mapping):
        return
    now = fingerprint()
    if now.digest != before.get("digest"):
        numbers = f"{now.pictures:,} now, {before.get('pictures')} before"
        log.info("the pictures have changed since the run was trained: %s", numbers)


def split_of(run: TrainedOn, root: str | None, split: Split, progress: Progress) -> Images:
    """All images of a split, possibly none. Raises DataError when their shape is not the model's."""
    images = _loaded(_source(run, root), split, progress)
    if len(images) and images.shape != tuple(run.shape):
        raise DataError(
            f"root: its images have shape {images.shape}, but the model needs {tuple(run.shape)}; "
            "name the folder that the model was trained on"
        )
    check_same_classes(run.class_names, images, run.config)
    return images


def examples(run: TrainedOn, root: str | None, n: int, seed: int, progress: Progress) -> Images:
    """At most `n` random held-out images, chosen by `seed`; training images if fewer are held out."""
    source = _source(run, root)
    images = _loaded(source, "val", progress)
    if len(images) < n:
        images = _loaded(source, "train", progress)
    if not len(images):
        raise DataError("dataset: has no images; set root=FOLDER")
    return images.subset(shuffled(len(images), seed)[:n])


def shuffled(n: int, seed: int) -> torch.Tensor:
    """(n,) int64: a random permutation chosen by `seed`."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))


def _loaded(source: Any, split: Split, progress: Progress) -> Images:
    """The images of a split. Raises DataError with advice for commands that have `root`, but no `dataset`."""
    try:
        images: Images = source.load(split, progress)
    except DataError as error:
        text = str(error).replace("dataset.root", "root").replace(" or set dataset.skip_damaged=true", "")
        raise DataError(
            re.sub(r"set dataset\.\w+=\S+", "name the folder it was trained on with root=FOLDER", text)
        ) from error
    return images


def _source(run: TrainedOn, root: str | None) -> Any:
    """The dataset of a run. Raises DataError as `node_of` does."""
    return build(node_of(run.config, run.trained_here, root), "dataset", trust=run.trusted)


def node_of(config: Mapping[str, Any], trained_here: bool, root: str | None) -> dict[str, Any]:
    """The node of the dataset of a run, see `origin`.

    Of a checkpoint that came from elsewhere no place for a cache is used, and nothing is downloaded.

    Raises:
        DataError: only such a checkpoint names the folder.
    """
    node = dict(config["dataset"])
    if root is not None:
        node["root"] = root
    elif not trained_here and node.get("root") not in DEFAULT_ROOTS:
        named = printable(str(node["root"]))
        raise DataError(
            f"root: the run was not trained here, and its pictures are in {named}; name their folder with root=FOLDER"
        )
    if not trained_here:
        node |= {key: value for key, value in NOT_FROM_ELSEWHERE.items() if key in node}
    return node
