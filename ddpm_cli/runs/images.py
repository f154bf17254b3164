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


class RealImages:
    """The images of the dataset that a run was trained on. The dataset is listed once, and each split is read once.

    Args:
        root: the folder of the dataset; None = that of the run.

    Raises:
        DataError: as `node_of`.
    """

    def __init__(self, run: TrainedOn, root: str | None, progress: Progress):
        self.run, self.progress = run, progress
        self._source: Any = build(node_of(run.config, run.trained_here, root), "dataset", trust=run.trusted)
        self._read: dict[Split, Images] = {}
        self._compared = False

    def held_out(self, split: Split, n: int | None, seed: int) -> Images:
        """`n` random images of a split, chosen by `seed`; all if there are fewer or n is None.

        They keep the order of the dataset, so that with all images the result does not depend on the seed.

        Raises:
            DataError: there are none, or their shape or classes are not the model's.
        """
        images = self.split(split)
        if not self._compared:
            self._compared = True
            self._warn_of_moved(split)
            self._say_what_changed()
        if not len(images):
            raise DataError(f"split: the dataset has no {split} images; use split=train, or another root=FOLDER")
        return images.subset(shuffled(len(images), seed)[:n].sort().values)

    def split(self, split: Split) -> Images:
        """All images of a split, possibly none. Raises DataError when their shape or classes are not the model's."""
        if split not in self._read:
            images = _loaded(self._source, split, self.progress)
            if len(images) and images.shape != tuple(self.run.shape):
                raise DataError(
                    f"root: its images have shape {images.shape}, but the model needs {tuple(self.run.shape)}; "
                    "name the folder that the model was trained on"
                )
            check_same_classes(self.run.class_names, images, self.run.config)
            self._read[split] = images
        return self._read[split]

    def examples(self, n: int, seed: int) -> Images:
        """At most `n` random held-out images, chosen by `seed`; training images if fewer are held out."""
        images = _loaded(self._source, "val", self.progress)
        if len(images) < n:
            images = _loaded(self._source, "train", self.progress)
        if not len(images):
            raise DataError("dataset: has no images; set root=FOLDER")
        return images.subset(shuffled(len(images), seed)[:n])

    def _warn_of_moved(self, split: Split) -> None:
        """Log a warning if the run's rule holds out other pictures now, because there are more or fewer of them."""
        dataset, before = self.run.config["dataset"], self.run.trained_images
        folder = str(dataset.get("_target_", "")).endswith(".ImageFolder")
        by_number = dataset.get("split_rule", "shuffle") == "shuffle" or dataset.get("split_seed") is not None
        if split != "val" or not (folder and by_number) or before is None:
            return
        now = len(self.split("train"))
        if before != now:
            rule = "split_seed" if dataset.get("split_seed") is not None else "split_rule=shuffle"
            log.warning(
                "split: the run was trained on %s pictures, and would be on %s now; its rule of the split (%s) moves "
                "pictures when their number changes, so it was trained on many of those that are held out now",
                f"{before:,}", f"{now:,}", rule,
            )  # fmt: skip

    def _say_what_changed(self) -> None:
        """Log a line if the folder has other pictures than the run was trained on."""
        before, fingerprint = self.run.about.get("data"), getattr(self._source, "fingerprint", None)
        if fingerprint is None or not isinstance(before, Mapping):
            return
        now = fingerprint()
        if now.digest != before.get("digest"):
            numbers = f"{now.pictures:,} now, {before.get('pictures')} before"
            log.info("the pictures have changed since the run was trained: %s", numbers)


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
