"""The key of a cache: which pictures it holds and how they were decoded."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import PIL
from PIL import features

from ..progress import Progress
from .convert import DECODING
from .decode import Decoder
from .survey import Range, Survey, survey

LAYOUT = 3
"""Version of the cache format: raise it with any change, so that older caches are made again."""
_SAMPLED, _SAMPLE_BYTES = 16, 64 * 2**10


class Key(NamedTuple):
    """place: the folder and the decoding options; content: everything that the pixels depend on.

    A cache is looked up by its content, wherever the folder is now, and replaces older caches of the same place.
    """

    place: str
    content: str

    @property
    def stem(self) -> str:
        return f"{self.place}-{self.content}"


@dataclass(frozen=True)
class PictureFiles:
    """Picture files below `root`, and how to decode them.

    Args:
        subset: a name for these files if they are not all the pictures below `root`.
        range: see `Survey.ends`; None = the files have 8 bits, and are not surveyed.
    """

    root: Path
    files: Sequence[Path]
    decoder: Decoder
    subset: str = ""
    range: Range | None = None
    progress: Progress | None = None

    @cached_property
    def survey(self) -> Survey:
        return Survey() if self.range is None else survey(self.files, self.progress)

    @cached_property
    def decoding(self) -> Decoder:
        """`decoder`, with the values that become black and white."""
        if self.range is None:
            return self.decoder
        return replace(self.decoder, ends=self.survey.ends(self.range), everywhere=not isinstance(self.range, str))

    @cached_property
    def stats(self) -> list[tuple[int, int]]:
        """(size in bytes, modification time in ns) of each file; (-1, -1) of a missing one."""
        return [_stat(file) for file in self.files]

    @property
    def decoded_bytes(self) -> int:
        """The size of the decoded pictures in memory or on disk."""
        channels, height, width = self.decoder.shape
        return len(self.files) * channels * height * width

    def key(self) -> Key:
        """The key that distinguishes a cache of these pictures from others.

        The content hash covers the files' relative paths, sizes and modification times, in order, and everything that
        decoding depends on. It does not cover all bytes: reading them at each start would cost about as much as
        decoding. So after changing a file without changing its size and modification time, remove the cache. The first
        bytes of some files are included, because some tools give all files the same time, and different folders would
        then look alike.
        """
        options = [*self.decoder.height_width, self.decoder.channels, self.decoder.crop, self.subset, self.range]
        content = hashlib.sha256(json.dumps([options, DECODING, LAYOUT, _codecs()]).encode())
        depth = len(self.root.parts)
        for file, (size, time) in zip(self.files, self.stats, strict=True):
            content.update(b"%s\0%d\0%d\n" % (os.fsencode("/".join(file.parts[depth:])), size, time))
        for i in evenly_spaced(len(self.files), _SAMPLED):
            content.update(_first_bytes(self.files[i]))
        place = hashlib.sha256(json.dumps([str(self.root.resolve()), *options]).encode())
        return Key(place.hexdigest()[:12], content.hexdigest()[:24])


def evenly_spaced(n: int, most: int) -> list[int]:
    """At most `most` evenly spaced indices of 0..n-1, including the first and the last."""
    count = min(n, most)
    return [i * (n - 1) // max(count - 1, 1) for i in range(count)]


def _stat(file: Path) -> tuple[int, int]:
    try:
        status = file.stat()
    except OSError:  # the decoder will report it
        return -1, -1
    return status.st_size, status.st_mtime_ns


def _codecs() -> list[Any]:
    """The versions of Pillow and its codecs, which may round differently."""
    return [PIL.__version__, features.version_feature("libjpeg_turbo"), features.version_module("webp")]


def _first_bytes(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(_SAMPLE_BYTES)
    except OSError:
        return b""
