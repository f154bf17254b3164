"""A folder of caches: finds the cache of some pictures or makes it, once, and removes outdated ones."""

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

_SPARE = 64 * 2**20  # bytes of disk space to leave free
_PART = re.compile(r"\.[0-9a-f]{12}-([0-9a-f]{24})\..*part")
_log = logging.getLogger(__name__)


def find_or_make(
    folder: Path, source: PictureFiles, chosen: Collection[int], progress: Progress | None, verbose: bool = True
) -> Stored:
    """The cache of these pictures in `folder`, complete and verified.

    If two runs need the same cache, the first makes it while the second waits for the lock, and then uses it.

    Args:
        chosen: see `cache_file.write`.
        verbose: log when a cache is reused; making one is always logged.

    Raises:
        DataError: a chosen picture is damaged, unless the decoder skips damaged ones.
        OSError, NotImplementedError: the folder cannot be written or locked, and there is no such cache yet.
    """
    key = source.key()
    cached = _find(folder, key, source, verbose, logging.DEBUG)  # only the run that repairs a cache logs what was wrong
    if cached is not None:
        return cached
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # the pictures may be private
    lock = _lock(folder, key.content)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        _log.info("another run is decoding %s into %s; waiting for it", source.root, folder)
        lock.acquire()
    try:
        return _find(folder, key, source, verbose, logging.WARNING) or _make(folder, key, source, chosen, progress)
    finally:
        lock.release()


def _find(folder: Path, key: Key, source: PictureFiles, verbose: bool, invalid_level: int) -> Stored | None:
    """The cache if there is a valid one; why one is not valid is logged at `invalid_level`."""
    for manifest in sorted(folder.glob(f"*-{key.content}.json")):
        path = manifest.with_suffix(".npy")
        try:
            cached = cache_file.read(manifest)
        except InvalidCacheError as error:
            # as text: a log record is kept, the error's traceback with it, and with that the map of the file
            _log.log(invalid_level, "the cache %s is invalid: %s; decoding again", path, str(error))
            continue
        if _readable_now(source, cached):
            _log.log(invalid_level, "pictures missing from the cache %s can be read now; decoding again", path)
            continue
        _log.log(logging.INFO if verbose else logging.DEBUG, "reused the cache %s (%s)", path, _size(path))
        return cached
    return None


def _readable_now(source: PictureFiles, cached: Stored) -> bool:
    """Whether a picture that could not be read can be read now: the disk or the network may have failed."""
    scratch = np.empty((1, *source.decoder.shape), dtype=np.uint8)
    with quiet():
        return any(not source.decoder.block([source.files[i]], scratch) for i in cached.damaged)


def _make(folder: Path, key: Key, source: PictureFiles, chosen: Collection[int], progress: Progress | None) -> Stored:
    began = time.perf_counter()
    _tidy(folder, key)
    if shutil.disk_usage(folder).free < source.decoded_bytes + _SPARE:
        reason = f"{os.strerror(errno.ENOSPC)}: the cache needs {source.decoded_bytes / 2**20:,.0f} MiB"
        raise OSError(errno.ENOSPC, reason, str(folder))
    try:
        cached = cache_file.read(cache_file.write(folder, key, source, chosen, progress))
    except InvalidCacheError as error:
        raise OSError(errno.EIO, str(error), str(folder)) from error
    path, seconds = cached.pictures.path, time.perf_counter() - began
    _log.info("made the cache %s (%d pictures, %s) in %.1f s", path, len(source.files), _size(path), seconds)
    return cached


def _tidy(folder: Path, key: Key) -> None:
    """Remove the caches that the next one replaces and leftovers of killed runs. Their users can still read them."""
    stale = [p for pattern in (f"{key.place}-*", f"*-{key.content}.*") for p in folder.glob(pattern)]
    for path in sorted(stale):  # .json before .npy, so that no manifest is left without its pictures
        if path.suffix in (".json", ".npy"):
            with suppress(OSError):
                path.unlink(missing_ok=True)
    for partial in folder.glob(".*.part"):
        match = _PART.fullmatch(partial.name)
        if match and _abandoned(folder, match[1], key):
            with suppress(OSError):
                partial.unlink(missing_ok=True)


def _abandoned(folder: Path, content: str, key: Key) -> bool:
    """Whether no run is writing the cache of this content."""
    lock = _lock(folder, content)
    if Path(lock.lock_file) == Path(_lock(folder, key.content).lock_file):
        return True  # we hold this lock, so nobody else is writing
    try:
        with lock.acquire(timeout=0):
            return True
    except Timeout:
        return False


def _lock(folder: Path, content: str) -> FileLock:
    """The lock for this content: one of 256 files, so that lock files do not accumulate."""
    return FileLock(folder / f".lock-{content[:2]}")


def _size(path: Path) -> str:
    return f"{path.stat().st_size / 2**20:,.1f} MiB"
