"""A folder of caches: find the one that is wanted or make it, once, and remove what it replaces."""

import errno
import logging
import os
import re
import shutil
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from ..progress import Progress
from . import cache_file
from .cache_file import InvalidCacheError, Stored
from .cache_key import Key, PictureFiles
from .decode import quiet

_SPARE = 64 * 2**20  # bytes of the disk that are left to others
_PART = re.compile(r"\.[0-9a-f]{12}-([0-9a-f]{24})\..*part")
_log = logging.getLogger(__name__)


def find_or_make(
    folder: Path, of: PictureFiles, chosen: Collection[int], progress: Progress | None, say: bool = True
) -> Stored:
    """The cache of these pictures in `folder`, whole and checked.

    Two runs that want the same one make it once: the second waits for the first's lock, then finds it.

    Args:
        chosen: see `cache_file.write`.
        say: log that one was found; that one was made is always logged.

    Raises:
        DataError: a chosen picture is damaged, and damage is not to be skipped.
        OSError, NotImplementedError: the folder cannot be written or locked, and there is no such cache yet.
    """
    key = of.key()
    found = _find(folder, key, of, say, logging.DEBUG)  # what is wrong is told by who mends it
    if found is not None:
        return found
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # they may be private
    lock = _lock(folder, key.content)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        _log.info("another run is decoding %s into %s; waiting for it", of.root, folder)
        lock.acquire()
    try:
        return _find(folder, key, of, say, logging.WARNING) or _make(folder, key, of, chosen, progress)
    finally:
        lock.release()


def _find(folder: Path, key: Key, of: PictureFiles, say: bool, complain: int) -> Stored | None:
    """The cache, if it is there and fit; `complain` is the level at which it is logged why it is not."""
    for manifest in sorted(folder.glob(f"*-{key.content}.json")):
        path = manifest.with_suffix(".npy")
        try:
            found = cache_file.read(manifest)
        except InvalidCacheError as error:
            _log.log(complain, "the cache %s is of no use: %s; decoding again", path, error)
            continue
        if _readable_now(of, found):
            _log.log(complain, "pictures that the cache %s lacks can be read now; decoding again", path)
            continue
        _log.log(logging.INFO if say else logging.DEBUG, "reused the cache %s (%s)", path, _size(path))
        return found
    return None


def _readable_now(of: PictureFiles, found: Stored) -> bool:
    """Whether a picture that was damaged no longer is: it may have been the disk, or the network."""
    scratch = np.empty((1, *of.decoder.shape), dtype=np.uint8)
    with quiet():
        return any(not of.decoder.block([of.files[i]], scratch) for i in found.damaged)


def _make(folder: Path, key: Key, of: PictureFiles, chosen: Collection[int], progress: Progress | None) -> Stored:
    began = time.perf_counter()
    _tidy(folder, key)
    if shutil.disk_usage(folder).free < of.decoded_bytes + _SPARE:
        wanted = f"{os.strerror(errno.ENOSPC)}: it takes {of.decoded_bytes / 2**20:,.0f} MiB"
        raise OSError(errno.ENOSPC, wanted, str(folder))
    try:
        made = cache_file.read(cache_file.write(folder, key, of, chosen, progress))
    except InvalidCacheError as error:
        raise OSError(errno.EIO, str(error), str(folder)) from error
    path, seconds = made.pictures.path, time.perf_counter() - began
    _log.info("made the cache %s (%d pictures, %s) in %.1f s", path, len(of.files), _size(path), seconds)
    return made


def _tidy(folder: Path, key: Key) -> None:
    """Remove what the next cache replaces, and what killed runs left behind. Runs that read such a file keep it."""
    stale = [p for pattern in (f"{key.place}-*", f"*-{key.content}.*") for p in folder.glob(pattern)]
    for path in sorted(stale):  # .json before .npy
        if path.suffix in (".json", ".npy"):
            with suppress(OSError):
                path.unlink(missing_ok=True)
    for part in folder.glob(".*.part"):
        match = _PART.fullmatch(part.name)
        if match and _abandoned(folder, match[1], key):
            with suppress(OSError):
                part.unlink(missing_ok=True)


def _abandoned(folder: Path, content: str, key: Key) -> bool:
    lock = _lock(folder, content)
    if Path(lock.lock_file) == Path(_lock(folder, key.content).lock_file):
        return True  # it would be us
    try:
        with lock.acquire(timeout=0):
            return True
    except Timeout:
        return False


def _lock(folder: Path, content: str) -> FileLock:
    """One of 256, so that they do not pile up either."""
    return FileLock(folder / f".lock-{content[:2]}")


def _size(path: Path) -> str:
    return f"{path.stat().st_size / 2**20:,.1f} MiB"
