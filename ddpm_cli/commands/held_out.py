"""The pictures that a checkpoint is judged by."""

import torch

from ..build import build
from ..data.images import Images, Progress
from ..data.source import Split
from ..errors import DataError
from .loaded import Opened


def held_out(loaded: Opened, root: str | None, split: Split, n: int | None, seed: int, progress: Progress) -> Images:
    """`n` pictures of that part of the run's data set, drawn with `seed`; all when there are no more or n is None.

    Raises:
        DataError: there are none, or they have another shape than the model's.
    """
    node = dict(loaded.config["dataset"])
    if root is not None:
        node["root"] = root
    images: Images = build(node, "dataset", trust=loaded.trusted).load(split, progress)
    if not len(images):
        raise DataError(f"split: the data set has no {split} pictures; use split=train, or another root=FOLDER")
    if images.shape != loaded.shape:
        raise DataError(f"root: its pictures are {images.shape}, the model's {loaded.shape}; name the set it knows")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    return images.subset(order[:n])
