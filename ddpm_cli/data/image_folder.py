"""A dataset made of any folder of pictures."""

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

    The folders of the first level are classes if no picture lies in `root` itself and at least two of the folders
    contain pictures.

    Args:
        crop: "center" resizes the shorter side and crops the middle; "none" stretches to `size`.
        skip_damaged: leave unreadable files out instead of stopping at the first.
        cache: where decoded pictures are kept for the next run, see `cache.Where`.

    Raises:
        ValueError: a field is out of range; the message starts with its name.
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
            raise ValueError("val_fraction: must be a number, as a folder has no official test pictures")
        if self.crop not in ("center", "none"):
            raise ValueError(f"crop: must be center or none, got {self.crop!r}")
        if self.cache == "":
            raise ValueError("cache: must be auto, true, false or a folder, got an empty value")

    def load(self, split: Split, progress: Progress | None = None) -> Images:
        """The training or the held-out pictures. If there is only one picture, none is held out.

        Raises:
            DataError: the folder is missing, has no pictures, an unreadable one or another number of classes than
                `classes`; or `split` is "test".
        """
        root = self.folder()
        files = list_pictures(root)
        names, classes = find_classes(root, files)
        if self.classes not in (None, 0, len(names)):
            advice = "set dataset.classes=null to use the folders as they are"
            raise DataError(f"{root}: has {len(names)} class folders, not {self.classes}; {advice}")
        chosen = self.chosen(len(files), split)
        decoder = Decoder(self.height_width, self.channels, self.crop == "center", self.skip_damaged)
        decoded = load(PictureFiles(root, files, decoder), chosen, self.cache, progress, verbose=split == "train")
        if split == "train" and not len(decoded.kept):
            raise DataError(f"{root}: has no readable pictures; put some there or set dataset.root=FOLDER")
        return self.pack_decoded(decoded, torch.tensor(classes)[decoded.kept], names, split)
