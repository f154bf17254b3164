"""Any folder of pictures as a dataset."""

from dataclasses import dataclass
from typing import Literal

import torch

from ..errors import DataError
from ..progress import Progress
from .cache import Where, load
from .cache_key import PictureFiles
from .decode import Decoder
from .images import Images
from .listing import find_classes, list_pictures
from .source import Source, Split


@dataclass(frozen=True)
class ImageFolder(Source):
    """The pictures below `root`: nested, of mixed formats, sizes and modes; see `listing` and `convert.picture`.

    Classes are the first folder level when no picture lies in `root` itself and two folders or more hold pictures.

    Args:
        crop: "center" resizes the shorter side and cuts the middle out; "none" stretches to `size`.
        skip_damaged: leave unreadable files out instead of stopping at the first.
        cache: where decoded pictures are kept for the next run, see `cache.Where`.

    Raises:
        ValueError: a field out of range, named first.
    """

    name: str = "image_folder"
    size: int | tuple[int, int] = 64
    flip: bool = True
    val_fraction: float = 0.05
    crop: Literal["center", "none"] = "center"
    skip_damaged: bool = False
    cache: Where = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.val_fraction is None:
            raise ValueError("val_fraction: must be a number, a folder has no official test pictures")
        if self.crop not in ("center", "none"):
            raise ValueError(f"crop: must be center or none, got {self.crop!r}")
        if self.cache == "":
            raise ValueError("cache: must be auto, true, false or a folder, got nothing")

    def load(self, split: Split, progress: Progress | None = None) -> Images:
        """The training or the held-out pictures. The held-out part of a single picture is empty.

        Raises:
            DataError: no folder, no pictures, an unreadable one, not as many class folders as `classes`, or test
                pictures are asked for: there are none.
        """
        root = self.folder()
        files = list_pictures(root)
        names, classes = find_classes(root, files)
        if self.classes not in (None, 0, len(names)):
            advice = "set dataset.classes=null to take what is there"
            raise DataError(f"{root}: has {len(names)} class folders, not {self.classes}; {advice}")
        chosen = self.chosen(len(files), split)
        decoder = Decoder(self.height_width, self.channels, self.crop == "center", self.skip_damaged)
        found = load(PictureFiles(root, files, decoder), chosen, self.cache, progress, say=split == "train")
        if split == "train" and not len(found.kept):
            raise DataError(f"{root}: has no readable pictures; put some there or set dataset.root=FOLDER")
        return self.pack_decoded(found, torch.tensor(classes)[found.kept], names, split)
