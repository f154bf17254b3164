"""Loads picture files, decoding them only once: later runs map a cache of the decoded pictures into memory."""

import errno
import logging
import os
from pathlib import Path
from typing import Literal

from torch import Tensor

from ..errors import ConfigError
from ..progress import Progress
from ..text import PathText, home
from .cache_file import Stored
from .cache_key import PictureFiles
from .cache_store import find_or_make
from .mapped import Decoded

Where = bool | Literal["auto"] | PathText
"""true: cache in the user's cache folder; FOLDER: cache there; false: decode at each start; auto: cache large sets."""
MANY, LARGE = 5000, 100 * 2**20
"""auto caches from this many pictures or bytes of files on; either takes about a second to decode."""
_log = logging.getLogger(__name__)


def load(
    source: PictureFiles, chosen: Tensor, where: Where, progress: Progress | None = None, verbose: bool = True
) -> Decoded:
    """The pictures at `chosen` (N,) int64, without damaged ones: from a cache, or decoded into memory.

    A cache holds all files, so that the training and the held-out pictures are two selections of one cache.

    Args:
        verbose: log when a cache is reused, or why there is none; making one is always logged.

    Raises:
        ConfigError: the cache would be inside the folder of pictures.
        DataError: one of the chosen files is not a readable picture, see `Decoder`.
    """
    indices = chosen.tolist()
    stored = _stored(source, indices, where, progress, verbose) if _use_cache(source, where) else None
    if stored is None:
        pixels, kept = source.decoding([source.files[i] for i in indices], progress)
        return Decoded(pixels, chosen[kept], survey=source.survey)
    kept = source.decoder.good(source.files, indices, stored.damaged)
    rows = None if len(kept) == len(source.files) else kept
    return Decoded(stored.pictures.pixels, kept, rows, stored.pictures, stored.survey)


def folder_of(where: Where) -> Path:
    """The folder for caches. Raises OSError if the user has no home folder."""
    if isinstance(where, str) and where != "auto":
        return Path(home(where))
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        return (base if base.is_absolute() else Path.home() / ".cache") / "ddpm-cli" / "pictures"
    except RuntimeError as error:
        raise OSError(errno.ENOENT, str(error)) from error


def _use_cache(source: PictureFiles, where: Where) -> bool:
    if where == "auto":
        return len(source.files) >= MANY or sum(size for size, _ in source.stats) >= LARGE
    return where is not False


def _stored(
    source: PictureFiles, chosen: list[int], where: Where, progress: Progress | None, verbose: bool
) -> Stored | None:
    """The cache, or None (with a warning) if there cannot be one."""
    try:
        folder = folder_of(where)
        if folder.resolve().is_relative_to(source.root.resolve()):
            if not isinstance(where, bool) and where != "auto":
                raise ConfigError(f"dataset.cache: {where} is inside the folder of pictures; choose another folder")
            raise OSError(errno.EINVAL, "it would be inside the folder of pictures", str(folder))
        return find_or_make(folder, source, set(chosen), progress, verbose)
    except (OSError, NotImplementedError) as error:  # no space, no permission, no locks
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        at = f" in {error.filename}" if isinstance(error, OSError) and error.filename else ""
        if verbose:
            _log.warning("cannot cache the decoded pictures%s (%s); decoding into memory at each start", at, reason)
        return None
