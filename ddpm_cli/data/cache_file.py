"""A cache on disk: STEM.npy, the pictures as numpy writes them, and STEM.json, without which they do not count."""

import hashlib
import json
import os
import time
import zlib
from collections.abc import Collection, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..files import sync_folder, write_json
from ..progress import Progress
from .cache_key import Key, PictureFiles, evenly_spaced
from .decode import BLOCK, quiet
from .mapped import Mapped
from .parallel import by_processes

_CHECKED = 8  # blocks whose sums are compared when a cache is opened: all would be to read all


class Stored(NamedTuple):
    """pictures: (M,C,H,W), one of each file; damaged: why those that cannot be read cannot, their rows are black."""

    pictures: Mapped
    damaged: dict[int, str]


class InvalidCacheError(Exception):
    """A cache that is not whole: what is wrong with it."""


def read(manifest: Path) -> Stored:
    """Open the cache that `manifest` tells of.

    Raises:
        InvalidCacheError: it is not what was written: its size, or the checksum of the manifest or of a block checked.
    """
    path = manifest.with_suffix(".npy")
    try:
        told = json.loads(manifest.read_text(encoding="utf-8"))
        if told.pop("sha256") != _digest(told) or told["stem"].rpartition("-")[2] not in manifest.stem:
            raise InvalidCacheError("its manifest is damaged")
        if path.stat().st_size != told["bytes"]:
            raise InvalidCacheError(f"it has {path.stat().st_size:,} bytes, not {told['bytes']:,}")
        pictures = Mapped(path)
        array = pictures.pixels.numpy()
        if list(array.shape) != told["shape"]:
            raise InvalidCacheError(f"its shape is {list(array.shape)}, not {told['shape']}")
        for number, crc in told["crc32"].items():
            if _crc(array, int(number)) != crc:
                raise InvalidCacheError(f"block {number} of it is damaged")
        pictures.release()
        return Stored(pictures, {int(i): str(reason) for i, reason in told["damaged"].items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidCacheError(" ".join(str(error).split()) or type(error).__name__) from error


def write(folder: Path, key: Key, of: PictureFiles, chosen: Collection[int], progress: Progress | None) -> Path:
    """Decode pictures on all cores straight into a cache in `folder`. Returns its manifest.

    Nothing is kept in memory. Until all is on disk it has a name that nobody takes for a cache.

    Args:
        chosen: those that must be readable (if the decoder does not skip damage): the first that is not ends it.

    Raises:
        DataError: one of them is not.
        OSError: it cannot be written; nothing is left behind.
    """
    path, part = folder / f"{key.stem}.npy", folder / f".{key.stem}.part"
    manifest = path.with_suffix(".json")
    try:
        damaged = _decode_into(part, of, chosen, progress)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        manifest.unlink(missing_ok=True)  # it tells of something else
        part.replace(path)
        sync_folder(folder)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    pixels = np.load(path, mmap_mode="r")
    told = {
        "stem": key.stem,
        "root": str(of.root.resolve()),
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "bytes": path.stat().st_size,
        "shape": list(pixels.shape),
        "crc32": {str(number): _crc(pixels, number) for number in evenly_spaced(_blocks(of), _CHECKED)},
        "damaged": {str(i): damaged[i] for i in sorted(damaged)},
    }
    write_json(manifest, told | {"sha256": _digest(told)})
    return manifest


def _decode_into(part: Path, of: PictureFiles, chosen: Collection[int], progress: Progress | None) -> dict[int, str]:
    """Fill a new .npy file, block by block in any order. Returns what is damaged and why."""
    start, n, decoder = _begin(part, (len(of.files), *of.decoder.shape)), len(of.files), of.decoder
    damaged: dict[int, str] = {}

    def work(number: int) -> dict[int, str]:
        low = number * BLOCK
        pixels = np.zeros((min(BLOCK, n - low), *decoder.shape), dtype=np.uint8)
        found = decoder.block(of.files[low : low + BLOCK], pixels, low)
        with part.open("r+b") as file:  # written, not mapped: a full disk is then an error and not the end
            file.seek(start + low * pixels[0].nbytes)
            file.write(pixels.data)
        return found

    with quiet(), closing(by_processes(work, _blocks(of))) as results:
        for done, found in enumerate(results, start=1):
            decoder.refuse(of.files, {i: why for i, why in found.items() if i in chosen})
            damaged |= found
            if progress:
                progress("decoding", min(done * BLOCK, n), n)
    return damaged


def _begin(part: Path, shape: tuple[int, ...]) -> int:
    """An empty array of that shape; where its first picture begins."""
    with part.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        start = file.tell()
        file.truncate(start + int(np.prod(shape, dtype=np.int64)))
    return start


def _blocks(of: PictureFiles) -> int:
    return -(-len(of.files) // BLOCK)


def _crc(array: np.ndarray, block: int) -> int:
    return zlib.crc32(np.ascontiguousarray(array[block * BLOCK : (block + 1) * BLOCK]).data)


def _digest(told: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
