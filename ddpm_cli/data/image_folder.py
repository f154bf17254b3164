"""A dataset made of any folder of pictures."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from ..errors import DataError
from ..progress import Progress, plural
from ..text import in_list, printable
from .cache import Where, load
from .cache_key import PictureFiles
from .decode import Decoder
from .facts import DataFacts, equal_pictures, held_out
from .folders import Listing, list_folder
from .images import Images
from .mapped import Decoded
from .source import Source, Split
from .survey import BYTE, LITTLE, Range

NAMED = 12
"""Classes that are listed with their number of pictures."""
LOOKED_AT = 500
"""Pictures whose values are looked at to warn of a dark set."""


@dataclass(frozen=True)
class ImageFolder(Source):
    """The pictures below `root`: nested, of mixed formats, sizes and modes; see `listing` and `convert.picture`.

    Subfolders may be classes, or splits with classes below; `folders` has the rules.

    Args:
        crop: "center" resizes the shorter side and crops the middle; "none" stretches to `size`.
        range: the stored values that become black and white: auto and full, or two numbers, see `Survey.ends`.
        skip_damaged: leave unreadable files out instead of stopping at the first.
        cache: where decoded pictures are kept for the next run, see `cache.Where`.
        split_rule: how held-out pictures are chosen: path = each by its own path, see `facts.held_out`; shuffle = by a
            shuffle of all, as before, where an added picture moves the others. `split_seed` shuffles too.

    Raises:
        ValueError: a field is out of range; the message starts with its name.
    """

    name: str = "image_folder"
    size: int | tuple[int, int] = 64
    flip: bool = True
    val_fraction: float = 0.05
    crop: Literal["center", "none"] = "center"
    range: Range = "auto"
    skip_damaged: bool = False
    cache: Where = "auto"
    split_rule: Literal["path", "shuffle"] = "shuffle"  # of runs whose config does not have it

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.val_fraction is None:
            raise ValueError("val_fraction: must be a number, as a folder has no official test pictures")
        if self.crop not in ("center", "none"):
            raise ValueError(f"crop: must be center or none, got {self.crop!r}")
        if self.cache == "":
            raise ValueError("cache: must be auto, true, false or a folder, got an empty value")
        if not isinstance(self.range, str) and not -math.inf < float(self.range[0]) < float(self.range[1]) < math.inf:
            raise ValueError(f"range: must be auto, full or [black,white] with black below white, got {self.range!r}")

    @cached_property
    def listing(self) -> Listing:
        """The folder as it was when it was first read."""
        return list_folder(self.folder())

    @property
    def has_test(self) -> bool:  # type: ignore[override]
        """Whether there is a folder `test`."""
        return "test" in (self.listing.splits or ())

    def load(self, split: Split, progress: Progress | None = None) -> Images:
        """The training, held-out or test pictures. If there is only one picture, none is held out.

        Raises:
            DataError: the folder is missing, has no pictures, an unreadable one or another number of classes than
                `classes`; or `split` is "test" and there is no such folder.
        """
        listing, first = self.listing, split == "train"
        if self.classes not in (None, 0, len(listing.names)):
            advice = "set dataset.classes=null to use the folders as they are"
            raise DataError(f"{listing.root}: has {len(listing.names)} class folders, not {self.classes}; {advice}")
        chosen = self._of_split(split)
        decoded = load(self._files(progress), chosen, self.cache, progress, verbose=first)
        if first and not len(decoded.kept):
            raise DataError(f"{listing.root}: has no readable pictures; put some there or set dataset.root=FOLDER")
        images = self.pack_decoded(decoded, torch.tensor(listing.labels)[decoded.kept], listing.names, split)
        if not first:
            return images
        facts = DataFacts.of_files(listing, decoded.survey.ends(self.range) or BYTE)
        lines = (*self._lines(decoded, len(chosen)), *equal_pictures(facts, listing))
        warnings = tuple(self._warnings(decoded, images))
        return replace(images, facts=replace(facts, lines=lines, warnings=warnings))

    def fingerprint(self) -> DataFacts:
        """The number of pictures and their digest, without their values."""
        return DataFacts.of_files(self.listing, None)

    def _files(self, progress: Progress | None) -> PictureFiles:
        """All files of the folder: the same object for every split, so that they are surveyed once."""
        if "_kept_files" not in self.__dict__:
            crop, listing = self.crop == "center", self.listing
            decoder = Decoder(self.height_width, self.channels, crop, self.skip_damaged, skip_missing=True)
            files = PictureFiles(listing.root, listing.files, decoder, range=self.range, progress=progress)
            object.__setattr__(self, "_kept_files", files)
        kept: PictureFiles = self.__dict__["_kept_files"]
        return kept

    def _of_split(self, split: Split) -> Tensor:
        """The (M,) int64 ascending indices of the files of a split."""
        listing = self.listing
        if listing.splits is None:
            return self._divided(list(range(len(listing.files))), split)
        of = {name: [i for i, s in enumerate(listing.splits) if s == name] for name in ("train", "val", "test")}
        if split == "test" and not of["test"]:
            return self._divided([], split)
        if split == "test" or of["val"]:
            return torch.tensor(of[split], dtype=torch.int64)
        return self._divided(of["train"], split)

    def _divided(self, files: list[int], split: Split) -> Tensor:
        """Those of `files` that are to train, or held out, where no folder says which."""
        if split == "test" or self.split_rule == "shuffle" or self.split_seed is not None:
            return torch.tensor(files, dtype=torch.int64)[self.chosen(len(files), split)]
        listing = self.listing
        names, labels = [listing.relative(listing.files[i]) for i in files], [listing.labels[i] for i in files]
        held = held_out(names, labels, self.val_fraction)
        wanted = split == "val"
        return torch.tensor([i for i, is_held in zip(files, held, strict=True) if is_held == wanted], dtype=torch.int64)

    def _lines(self, decoded: Decoded, training: int) -> Iterator[str]:
        """What was understood of the folder. training: the number of training pictures, unreadable ones included."""
        listing, survey = self.listing, decoded.survey
        total, val = len(listing.files), len(self._of_split("val"))
        parts = [plural(total, "picture")]
        if listing.names:
            parts.append(self._classes(listing))
        if survey.smallest is not None and survey.largest is not None:
            small, large = (f"{width}x{height}" for width, height in (survey.smallest, survey.largest))
            parts.append(f"{small} pixels" if small == large else f"{small} to {large} pixels")
        parts.append(f"{val:,} held out" if val else "none held out")
        if training > len(decoded.kept):
            parts.append(f"{training - len(decoded.kept):,} of the others cannot be read")
        yield f"{printable(str(listing.root))}: {', '.join(parts)}"
        yield from listing.lines
        yield from survey.lines(self.range)
        if self.channels == 3 and survey.grey and survey.grey == survey.bytes + survey.words + survey.own:
            yield "all pictures are grey; with dataset.channels=1 the model learns grey ones, which is easier"

    def _warnings(self, decoded: Decoded, images: Images) -> Iterator[str]:
        """What will make the samples worse than expected."""
        survey = decoded.survey
        yield from self._untrained(images)
        yield from survey.flat(self.range)
        if not survey.words + survey.own and isinstance(self.range, str):
            yield from _dark(images)

    def _classes(self, listing: Listing) -> str:
        counts = Counter(listing.names[i] for i in listing.labels)
        shown = [f"{in_list(name)} {counts[name]:,}" for name in listing.names[:NAMED]]
        more = ", ..." if len(listing.names) > NAMED else ""
        text = f"{plural(len(listing.names), 'class', 'classes')} ({', '.join(shown)}{more})"
        return f"{text}, which are ignored (dataset.classes=0)" if self.classes == 0 else text

    def _untrained(self, images: Images) -> Iterator[str]:
        present = set(images.labels.unique().tolist())
        missing = [in_list(name) for i, name in enumerate(images.class_names) if i not in present]
        if missing:
            yield f"no training pictures of {', '.join(missing[:NAMED])}; samples of that class will be noise"


def _dark(images: Images) -> Iterator[str]:
    """A line if 8-bit pictures use little of their range."""
    step = max(len(images) // LOOKED_AT, 1)
    part = images.subset(torch.arange(0, len(images), step)).pixels
    low, high = int(part.min()), int(part.max())
    if 0 < high - low < LITTLE * 255:
        yield f"the pictures use only the values {low} to {high} of 255; dataset.range=[{low},{high}] stretches them"
