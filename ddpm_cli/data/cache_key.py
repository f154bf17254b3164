"""Which pictures, decoded how: when two caches of them are the same."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import PIL
from PIL import features

from .convert import DECODING
from .decode import Decoder

LAYOUT = 1
"""Of the cache's files: raised with any change, and older ones are made anew."""
_SAMPLED, _SAMPLE_BYTES = 16, 64 * 2**10


class Key(NamedTuple):
    """place: the folder, and the size and so on that its pictures are wanted in; content: what the pixels depend on.

    A cache is found by its content wherever it was made, and replaces older ones of its place.
    """

    place: str
    content: str

    @property
    def stem(self) -> str:
        return f"{self.place}-{self.content}"


@dataclass(frozen=True)
class PictureFiles:
    """Files of pictures below `root`, and how they are wanted.

    Args:
        part: which of the pictures below `root` these are, where that is not all.
    """

    root: Path
    files: Sequence[Path]
    decoder: Decoder
    part: str = ""

    @cached_property
    def stats(self) -> list[tuple[int, int]]:
        """Of each file its bytes and when it was last written, in ns; of one that has gone, (-1, -1)."""
        return [_stat(file) for file in self.files]

    @property
    def decoded_bytes(self) -> int:
        """How much memory or disk they take when they are decoded."""
        channels, height, width = self.decoder.shape
        return len(self.files) * channels * height * width

    def key(self) -> Key:
        """What tells a cache of these pictures from others.

        The content is the files' paths below `root`, sizes and times of last writing, in order, and what decoding
        depends on. Not their bytes: to read them all costs about as much as decoding them, at each start. Whoever
        changes a file within the clock's tick to the same length, or sets its time back, has to remove the cache. The
        beginnings of a few files count all the same, as some tools give all files one time, and then different folders
        can look alike.
        """
        wanted = [*self.decoder.height_width, self.decoder.channels, self.decoder.crop, self.part]
        content = hashlib.sha256(json.dumps([wanted, DECODING, LAYOUT, _codecs()]).encode())
        depth = len(self.root.parts)
        for file, (size, time) in zip(self.files, self.stats, strict=True):
            content.update(b"%s\0%d\0%d\n" % (os.fsencode("/".join(file.parts[depth:])), size, time))
        for i in evenly_spaced(len(self.files), _SAMPLED):
            content.update(_first_bytes(self.files[i]))
        place = hashlib.sha256(json.dumps([str(self.root.resolve()), *wanted]).encode())
        return Key(place.hexdigest()[:12], content.hexdigest()[:24])


def evenly_spaced(n: int, most: int) -> list[int]:
    """At most `most` of 0..n-1, the first and the last among them, evenly apart."""
    few = min(n, most)
    return [i * (n - 1) // max(few - 1, 1) for i in range(few)]


def _stat(file: Path) -> tuple[int, int]:
    try:
        status = file.stat()
    except OSError:  # the decoder will say so
        return -1, -1
    return status.st_size, status.st_mtime_ns


def _codecs() -> list[Any]:
    """Pillow and the libraries in it whose versions may round differently."""
    return [PIL.__version__, features.version_feature("libjpeg_turbo"), features.version_module("webp")]


def _first_bytes(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(_SAMPLE_BYTES)
    except OSError:
        return b""
