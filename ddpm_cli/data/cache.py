"""Pictures in files that are decoded once and mapped into memory ever after."""

import errno
import logging
import os
from pathlib import Path
from typing import Literal

from torch import Tensor

from ..errors import ConfigError
from ..progress import Progress
from .cache_file import Stored
from .cache_key import PictureFiles
from .cache_store import find_or_make
from .mapped import Decoded

Where = bool | Literal["auto"] | str
"""true: in the user's cache directory; false: into memory at each start; FOLDER: there; auto: true where it pays."""
MANY, LARGE = 5000, 100 * 2**20
"""auto: it pays from so many pictures or bytes of files on, either of which is about a second's decoding."""
_log = logging.getLogger(__name__)


def load(of: PictureFiles, chosen: Tensor, where: Where, progress: Progress | None = None, say: bool = True) -> Decoded:
    """The pictures at `chosen` (N,) int64, without damaged ones: from a cache, else decoded into memory.

    A cache holds all the files, so that the parts of a split are two choices of one.

    Args:
        say: log that a cache was found, or why there is none; that one was made is always logged.

    Raises:
        ConfigError: the cache would lie among the pictures.
        DataError: one of the chosen is not a readable picture, see `Decoder`.
    """
    places = chosen.tolist()
    stored = _stored(of, places, where, progress, say) if _wanted(of, where) else None
    if stored is None:
        pixels, kept = of.decoder([of.files[i] for i in places], progress)
        return Decoded(pixels, chosen[kept])
    kept = of.decoder.good(of.files, places, stored.damaged)
    rows = None if len(kept) == len(of.files) else kept
    return Decoded(stored.pictures.pixels, kept, rows, stored.pictures)


def folder_of(where: Where) -> Path:
    """The folder that caches lie in. Raises OSError where the user has no home."""
    if isinstance(where, str) and where != "auto":
        return Path(where).expanduser()
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        return (base if base.is_absolute() else Path.home() / ".cache") / "ddpm-cli" / "pictures"
    except RuntimeError as error:
        raise OSError(errno.ENOENT, str(error)) from error


def _wanted(of: PictureFiles, where: Where) -> bool:
    if where == "auto":
        return len(of.files) >= MANY or sum(size for size, _ in of.stats) >= LARGE
    return where is not False


def _stored(of: PictureFiles, chosen: list[int], where: Where, progress: Progress | None, say: bool) -> Stored | None:
    try:
        folder = folder_of(where)
        if folder.resolve().is_relative_to(of.root.resolve()):
            if not isinstance(where, bool) and where != "auto":
                raise ConfigError(f"dataset.cache: {where} lies among the pictures; name a folder elsewhere")
            raise OSError(errno.EINVAL, "it would lie among the pictures", str(folder))
        return find_or_make(folder, of, set(chosen), progress, say)
    except (OSError, NotImplementedError) as error:  # no space, no permission, no locks
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        at = f" in {error.filename}" if isinstance(error, OSError) and error.filename else ""
        if say:
            _log.warning("no cache of decoded pictures%s (%s); decoding into memory, at each start", at, reason)
        return None
