"""CelebA's aligned faces through torchvision's layout, ROOT/celeba/."""

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from ..errors import DataError
from ..files import replace
from ..progress import Progress
from ..text import printable
from .cache import Where, load
from .cache_key import PictureFiles
from .decode import Decoder
from .download import Files
from .images import Images
from .layouts import Layout, obtain
from .source import Source, Split

_PARTITION = "list_eval_partition.txt"  # lines like "000001.jpg 0"; 0 train, 1 validation, 2 test
_PICTURES = "img_align_celeba"


@dataclass(frozen=True)
class CelebA(Source):
    """Unlabelled faces: the central square of each 178x218 picture, resized to `size`.

    Only the pictures and the list of the splits are needed; torchvision downloads four other lists as well.

    Args:
        download: False never uses the network.
        cache: where decoded pictures are kept for the next run, see `cache.Where`.

    Raises:
        ValueError: a field is out of range; the message starts with its name.
    """

    name: str = "celeba"
    size: int | tuple[int, int] = 64
    classes: int | None = 0
    flip: bool = True
    download: bool = True
    cache: Where = "auto"

    has_test: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_classes(0)

    def load(self, split: Split, progress: Progress | None = None) -> Images:
        """The training, validation or official test faces. With val_fraction=None, val is the test faces.

        Raises:
            DataError: files are missing and cannot be downloaded, or are damaged.
            StorageError: a download cannot be written.
        """
        from torchvision import datasets  # a second to import

        root = self.folder()
        official_train = split == "train" or (split == "val" and self.val_fraction is not None)
        layout = _Layout(datasets.CelebA, root, official_train)
        obtain(layout, root, self.download, progress)
        files = layout.pictures()
        divided = official_train and self.val_fraction is not None
        chosen = self.chosen(len(files), split) if divided else torch.arange(len(files))
        decoder, name = Decoder(self.height_width, self.channels), "train" if official_train else "test"
        pictures = PictureFiles(layout.base, files, decoder, name)
        decoded = load(pictures, chosen, self.cache, progress, verbose=split == "train")
        return self.pack_decoded(decoded, torch.zeros(len(decoded.kept), dtype=torch.int64), (), split)


class _Layout(Layout):
    @property
    def base(self) -> Path:
        return self.root / self.dataset.base_folder

    def files(self) -> Files:
        archives = [(self.base / name, md5) for _, md5, name in self.dataset.file_list]
        written = [*archives, (self.base / _PICTURES, None)]
        return Files("CelebA", self.base, [path.name for path, _ in archives], written)

    def present(self) -> bool:
        return (self.base / _PARTITION).is_file() and (self.base / _PICTURES).is_dir()

    def unpackable(self) -> bool:
        return (self.base / _PARTITION).is_file() and (self.base / f"{_PICTURES}.zip").is_file()

    def download(self) -> None:
        if self.unpackable():
            self._unpack()
        else:
            self.dataset(str(self.root), split="all", download=True)

    def _unpack(self) -> None:
        from torchvision.datasets.utils import extract_archive

        # unpacked elsewhere and then renamed: if interrupted, a part of the 200,000 files would look complete
        with tempfile.TemporaryDirectory(dir=self.base) as folder:
            extract_archive(self.base / f"{_PICTURES}.zip", folder)
            replace(Path(folder) / _PICTURES, self.base / _PICTURES)

    def pictures(self) -> list[Path]:
        """The files of the split, in the order of the list of splits."""
        code, path = ("0" if self.train else "2"), self.base / _PARTITION
        try:
            rows: list[Any] = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
            if strange := next((name for name, _ in rows if not re.fullmatch(r"\w[\w.-]*", name)), None):
                raise ValueError(f"{printable(strange)} is not the name of a picture")
            return [self.base / _PICTURES / name for name, split in rows if split == code]
        except (ValueError, OSError) as error:
            raise DataError(f"{path}: is damaged ({error}); remove it and run again") from error
