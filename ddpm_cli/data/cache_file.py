"""A cache on disk: STEM.npy with the pictures, and its manifest STEM.json, without which the cache is not valid."""

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
from numpy.typing import NDArray

from ..files import replace, sync_folder, write_json
from ..progress import Progress
from .cache_key import Key, PictureFiles, evenly_spaced
from .decode import BLOCK, quiet
from .mapped import Mapped
from .parallel import by_processes
from .survey import Survey

_AT_ONCE = 64 * 2**20
"""Bytes of a cache that is read as a whole when it is opened: that of a larger one could take longer than training."""
_CHECKED = 256
"""Pictures of a larger one that are verified then; the others are when they are first used, see `Mapped.check`."""


class Stored(NamedTuple):
    """pictures: (M,C,H,W), one per file; damaged: file index -> why it cannot be read (its row is black)."""

    pictures: Mapped
    damaged: dict[int, str]
    survey: Survey


class InvalidCacheError(Exception):
    """A cache is damaged or incomplete; the message says how."""


def read(manifest: Path) -> Stored:
    """Open the cache that `manifest` describes.

    Raises:
        InvalidCacheError: its size, its shape, or a checksum of the manifest or of a verified block does not match.
    """
    path = manifest.with_suffix(".npy")
    try:
        contents = json.loads(manifest.read_text(encoding="utf-8"))
        if contents.pop("sha256") != _digest(contents) or contents["stem"].rpartition("-")[2] not in manifest.stem:
            raise InvalidCacheError("its manifest is damaged")
        if path.stat().st_size != contents["bytes"]:
            raise InvalidCacheError(f"it has {path.stat().st_size:,} bytes, not {contents['bytes']:,}")
        sums = np.frombuffer(bytes.fromhex(contents["crc32"]), "<u4")
        pictures = Mapped(path, sums)
        array = pictures.pixels.numpy()
        if list(array.shape) != contents["shape"]:
            raise InvalidCacheError(f"its shape is {list(array.shape)}, not {contents['shape']}")
        count = len(array) if array.nbytes <= _AT_ONCE else _CHECKED
        for i in evenly_spaced(len(array), count):
            if pictures.damaged(np.array([i]), array[i : i + 1]) is not None:
                raise InvalidCacheError(f"its picture {i} is damaged")
        pictures.release()
        damaged = {int(i): str(reason) for i, reason in contents["damaged"].items()}
        return Stored(pictures, damaged, Survey.of_content(contents["survey"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidCacheError(" ".join(str(error).split()) or type(error).__name__) from error


def write(folder: Path, key: Key, source: PictureFiles, chosen: Collection[int], progress: Progress | None) -> Path:
    """Decode pictures on all cores straight into a cache in `folder`. Returns the path of its manifest.

    Nothing is kept in memory. Until everything is on disk, the file has a name that is not a cache's.

    Args:
        chosen: the files that must be readable, unless the decoder skips damaged ones; the first unreadable one stops
            the writing.

    Raises:
        DataError: a chosen file is not readable.
        OSError: the cache cannot be written; nothing is left behind.
    """
    path, partial = folder / f"{key.stem}.npy", folder / f".{key.stem}.part"
    manifest = path.with_suffix(".json")
    try:
        damaged, sums = _decode_into(partial, source, chosen, progress)
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        manifest.unlink(missing_ok=True)  # it describes the file that is now replaced
        replace(partial, path)
        sync_folder(folder)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    pixels = np.load(path, mmap_mode="r", allow_pickle=False)
    contents = {
        "stem": key.stem,
        "root": str(source.root.resolve()),
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "bytes": path.stat().st_size,
        "shape": list(pixels.shape),
        "crc32": sums.tobytes().hex(),
        "survey": source.survey.content(),
        "damaged": {str(i): damaged[i] for i in sorted(damaged)},
    }
    write_json(manifest, contents | {"sha256": _digest(contents)})
    return manifest


def _decode_into(
    path: Path, source: PictureFiles, chosen: Collection[int], progress: Progress | None
) -> tuple[dict[int, str], NDArray[np.uint32]]:
    """Fill a new .npy file, block by block in any order. Returns the indices of damaged files and the reasons, and the
    CRC-32 of each picture.
    """
    start, n, decoder = _begin(path, (len(source.files), *source.decoder.shape)), len(source.files), source.decoding
    damaged: dict[int, str] = {}
    sums = np.zeros(n, "<u4")

    def decode(number: int) -> tuple[int, dict[int, str], list[int]]:
        low = number * BLOCK
        pixels = np.zeros((min(BLOCK, n - low), *decoder.shape), dtype=np.uint8)
        reasons = decoder.block(source.files[low : low + BLOCK], pixels, low)
        with path.open("r+b") as file:  # written, not mapped: with a map, a full disk would kill the process
            file.seek(start + low * pixels[0].nbytes)
            file.write(pixels.data)
        return low, reasons, [zlib.crc32(picture.data) for picture in pixels]

    with quiet(), closing(by_processes(decode, _blocks(source))) as results:
        for done, (low, reasons, crcs) in enumerate(results, start=1):
            sums[low : low + len(crcs)] = crcs
            decoder.refuse(source.files, {i: reason for i, reason in reasons.items() if i in chosen})
            damaged |= reasons
            if progress:
                progress("decoding", min(done * BLOCK, n), n)
    return damaged, sums


def _begin(path: Path, shape: tuple[int, ...]) -> int:
    """Make a .npy file of zeros with this shape. Returns the offset of its first picture."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        start = file.tell()
        file.truncate(start + int(np.prod(shape, dtype=np.int64)))
    return start


def _blocks(source: PictureFiles) -> int:
    return -(-len(source.files) // BLOCK)


def _digest(contents: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()
