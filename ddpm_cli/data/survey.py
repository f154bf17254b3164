"""What a set of pictures has in common, from their headers: sizes, number formats, and the values of deep pictures.

A deep picture has more than 8 bits per value: 16-bit integers, as microscopes and scanners write them, or floats. All
deep pictures of a set are scaled by one rule, or a picture would be brighter than its neighbour with the same values.
"""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image

from ..progress import Progress
from .formats import opened
from .parallel import by_threads

Range = Literal["auto", "full"] | tuple[float, float]
"""The values that become black and white: auto and full, or two numbers. See `Survey.ends`."""
Ends = tuple[float, float]


class Values(NamedTuple):
    """The stored values that were black and white in training: of deep pictures, or of all."""

    ends: Ends | None = None
    everywhere: bool = False


BYTE, WORD = (0.0, 255.0), (0.0, 65535.0)
PAGED = ("TIFF", "GIF", "WEBP", "PNG", "AVIF")
BLOCK, MANY = 32, 1000
"""Files per task, and from how many files on progress is shown."""
LITTLE = 0.25
"""The share of the range below which a set is said to use little of it."""


@dataclass(frozen=True)
class Survey:
    """
    Args:
        bytes, words, own: the number of pictures with 8 bits per value, with 16, and with others (floats, 32 bits,
            signed), whose values have no natural range.
        low, high: the smallest and largest value of pictures with more than 8 bits.
        smallest, largest: width and height of the pictures with the fewest and the most pixels.
        paged: the number of files with more pages or frames than the first.
        not_finite: the number of pictures with NaN or infinite values.
        grey: the number of pictures without colour, by their format.
    """

    bytes: int = 0
    words: int = 0
    own: int = 0
    low: float | None = None
    high: float | None = None
    smallest: tuple[int, int] | None = None
    largest: tuple[int, int] | None = None
    paged: int = 0
    not_finite: int = 0
    grey: int = 0

    def ends(self, chosen: Range) -> Ends | None:
        """The values that become 0 and 255 in every deep picture; None if no picture is deep.

        auto and full are the range of the format for 16-bit pictures. For others, whose format has none, they are the
        smallest and largest value of the set.
        """
        if not isinstance(chosen, str):
            return float(chosen[0]), float(chosen[1])
        if self.own and self.low is not None and self.high is not None:
            low, high = (min(self.low, 0.0), max(self.high, 65535.0)) if self.words else (self.low, self.high)
            return (low, high) if high > low else (low, low + 1)
        return WORD if self.words else None

    def lines(self, chosen: Range, key: str = "dataset.range") -> Iterator[str]:
        """What the user should know of it."""
        if self.paged:
            files = "1 file has" if self.paged == 1 else f"{self.paged:,} files have"
            yield f"{files} several pages or frames; only the first one of each is used"
        if self.not_finite:
            yield f"{self.not_finite:,} pictures have values that are no numbers (NaN or infinite), which become black"
        ends = self.ends(chosen)
        if ends is None or self.low is None or self.high is None:
            return
        deep = self.words + self.own
        found, shown = _numbers(self.low, self.high), _numbers(*ends)
        yield f"{deep:,} pictures have more than 8 bits, with values from {found}; black to white is {shown} ({key})"
        if self.bytes and self.own:
            yield f"{self.bytes:,} pictures have 8 bits, from 0 to 255; check that both kinds have the same brightness"

    def flat(self, chosen: Range, key: str = "dataset.range") -> Iterator[str]:
        """A warning if deep pictures use little of their range."""
        ends = self.ends(chosen)
        if ends is None or self.low is None or self.high is None or not isinstance(chosen, str):
            return
        if self.high - self.low < LITTLE * (ends[1] - ends[0]):
            stretched = f"{key}=[{self.low:g},{self.high:g}] stretches them"
            yield f"the pictures use little of their range and will look dark or flat; {stretched}"

    def content(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def of_content(cls, content: dict[str, Any]) -> "Survey":
        sizes: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in content.items()}
        return cls(**sizes)

    @classmethod
    def merged(cls, parts: "Iterable[Survey]") -> "Survey":
        all_of = list(parts)
        lows, highs = ([v for p in all_of if (v := getattr(p, k)) is not None] for k in ("low", "high"))
        small, large = ([s for p in all_of if (s := getattr(p, k)) is not None] for k in ("smallest", "largest"))
        sums = {k: sum(getattr(p, k) for p in all_of) for k in ("bytes", "words", "own", "paged", "not_finite", "grey")}
        return cls(
            **sums,
            low=min(lows, default=None),
            high=max(highs, default=None),
            smallest=min(small, key=_area, default=None),
            largest=max(large, key=_area, default=None),
        )


def survey(files: Sequence[Path], progress: Progress | None = None) -> Survey:
    """Reads the header of every file, and the values of deep ones. Unreadable files are left to the decoder."""

    def block(number: int) -> Survey:
        return Survey.merged(map(_of_file, files[number * BLOCK : (number + 1) * BLOCK]))

    parts = []
    with warnings.catch_warnings(), closing(by_threads(block, -(-len(files) // BLOCK))) as blocks:
        warnings.simplefilter("ignore")  # about odd metadata
        for done, part in enumerate(blocks, start=1):
            parts.append(part)
            if progress and len(files) >= MANY:
                progress("reading headers", min(done * BLOCK, len(files)), len(files))
    return Survey.merged(parts)


def is_word(image: Image.Image) -> bool:
    """Whether the values are 16-bit integers from 0 to 65535."""
    if image.mode.startswith("I;16"):
        return not _signed(image)
    return image.mode == "I" and image.format in ("PNG", "PPM")  # Pillow scales both to 0..65535


def is_deep(image: Image.Image) -> bool:
    """Whether there are more than 8 bits per value."""
    return image.mode.startswith("I") or image.mode == "F"


def values_of(image: Image.Image) -> np.ndarray:
    """The values of a deep picture, (H,W) float64; of 16 signed bits as such."""
    array = np.asarray(image)
    return (array.view(np.int16) if array.dtype == np.uint16 and _signed(image) else array).astype(np.float64)


def _signed(image: Image.Image) -> bool:
    tags = getattr(image, "tag_v2", None)
    return tags is not None and 2 in np.atleast_1d(tags.get(339, 1))  # SampleFormat


def _of_file(file: Path) -> Survey:
    try:
        with opened(file) as image:
            paged = image.format in PAGED and bool(getattr(image, "is_animated", False))
            size, deep = image.size, is_deep(image)
            if not deep:
                grey = int(image.mode in ("1", "L", "LA"))
                return Survey(bytes=1, smallest=size, largest=size, paged=int(paged), grey=grey)
            word = is_word(image)
            image.load()
            values = values_of(image)
            finite = values[np.isfinite(values)]
            low, high = (float(finite.min()), float(finite.max())) if finite.size else (None, None)
            odd = int(finite.size < values.size)
            return Survey(0, int(word), int(not word), low, high, size, size, int(paged), odd, 1)
    except MemoryError:
        raise
    except Exception:  # the decoder will report it
        return Survey()


def _area(size: tuple[int, int]) -> int:
    return size[0] * size[1]


def _numbers(low: float, high: float) -> str:
    return f"{low:g} to {high:g}"
