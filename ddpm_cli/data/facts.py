"""What a run was trained on: which pictures, so that a later session knows whether they are still the same."""

import hashlib
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from .folders import Listing
from .parallel import by_threads

WHOLE = 100 * 2**20
"""Sets of fewer bytes are read whole for their digest, of larger ones the first `HEAD` bytes of each file."""
HEAD = 4096
BLOCK = 64
ROWS = 1000
"""Rows of an array that its digest covers."""


@dataclass(frozen=True)
class DataFacts:
    """
    Args:
        pictures: the number of pictures, held-out ones included.
        digest: of all of them and their classes, in order.
        files: relative path -> digest of its content; empty if the pictures are no files.
        ends: the stored values that became 0 and 255; None if they differ from file to file.
        lines, warnings: what was understood of the data and what was left out, for the user.
    """

    pictures: int
    digest: str
    files: Mapping[str, str] = field(default_factory=dict, repr=False)
    ends: tuple[float, float] | None = (0.0, 255.0)
    lines: tuple[str, ...] = field(default=(), repr=False)
    warnings: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def of_files(cls, listing: Listing, ends: tuple[float, float] | None) -> "DataFacts":
        files = digests(listing)
        return cls(len(files), digest_of(files), files, ends)

    @classmethod
    def of_arrays(cls, pixels: Tensor, labels: Tensor) -> "DataFacts":
        """pixels (N,C,H,W) uint8, labels (N,)."""
        rows = torch.linspace(0, max(len(pixels) - 1, 0), min(len(pixels), ROWS)).long()
        whole = hashlib.blake2b(repr(tuple(pixels.shape)).encode(), digest_size=16)
        whole.update(pixels[rows].contiguous().numpy().tobytes())
        whole.update(labels.contiguous().numpy().tobytes())
        return cls(len(pixels), whole.hexdigest())


def digest_of(files: Mapping[str, str]) -> str:
    """The digest of a set of pictures: of their relative paths and the digests of their contents, in order."""
    whole = hashlib.blake2b(digest_size=16)
    for name, digest in files.items():
        whole.update(name.encode("utf-8", "surrogateescape") + b"\0" + digest.encode() + b"\n")
    return whole.hexdigest()


def digests(listing: Listing) -> dict[str, str]:
    """Relative path -> digest of each file of a listing; of a file that cannot be read, ""."""
    files = listing.files
    whole = sum(map(_size, files)) <= WHOLE

    def block(number: int) -> list[str]:
        return [_digest(file, whole) for file in files[number * BLOCK : (number + 1) * BLOCK]]

    with closing(by_threads(block, -(-len(files) // BLOCK))) as blocks:
        found = [digest for part in blocks for digest in part]
    return {listing.relative(file): digest for file, digest in zip(files, found, strict=True)}


def equal_pictures(facts: DataFacts, listing: Listing) -> Iterator[str]:
    """A line if files have the same content, which a set of pictures rarely should."""
    first: dict[str, int] = {}
    equal = other_class = 0
    for digest, label in zip(facts.files.values(), listing.labels, strict=True):
        if digest and digest in first:
            equal += 1
            other_class += first[digest] != label
        first.setdefault(digest, label)
    if equal:
        text = "1 picture is equal to another" if equal == 1 else f"{equal:,} pictures are equal to others"
        yield f"{text}, {other_class:,} of them in another class" if other_class else text


def held_out(names: Sequence[str], labels: Sequence[int], fraction: float) -> list[bool]:
    """Which pictures are held out, by their relative paths: a picture's place does not depend on the other pictures.

    Each one is held out with probability `fraction`, decided by a hash of its path. There are two exceptions. Of a
    class of which all would be held out, the picture with the highest hash is not. And if none of two or more pictures
    would be, the one with the lowest hash is, unless it is the only one of its class.
    """
    hashes = [_fraction(name) for name in names]
    held = [value < fraction for value in hashes]
    of_class: dict[int, list[int]] = {}
    for i, label in enumerate(labels):
        of_class.setdefault(label, []).append(i)
    for members in of_class.values():
        if all(held[i] for i in members):
            held[max(members, key=hashes.__getitem__)] = False
    others = [i for members in of_class.values() if len(members) > 1 for i in members]
    if fraction > 0 and others and not any(held):
        held[min(others, key=hashes.__getitem__)] = True
    return held


def _fraction(name: str) -> float:
    """A hash of the name in [0, 1), the same on every system."""
    try:
        text = unicodedata.normalize("NFC", name).encode("utf-8")  # macOS stores accents as separate characters
    except UnicodeEncodeError:
        text = name.encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") / 2**64


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _digest(path: Path, whole: bool) -> str:
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            found = hashlib.blake2b(b"%d\0" % size, digest_size=8)
            found.update(file.read(-1 if whole else HEAD))
    except OSError:
        return ""
    return found.hexdigest()
