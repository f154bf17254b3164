"""torchvision's downloads, made to report progress, fail in one line and leave no halves behind."""

import errno
import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError, StorageError
from ..progress import Progress

_STALLED = 30.0  # seconds without a byte before a connection counts as lost
_STORAGE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


@dataclass(frozen=True)
class Files:
    """What a download brings.

    Args:
        title: the set's name in torchvision.
        folder: where its archives belong.
        archives: their names, for the message that asks a user to put them there.
        written: everything that a download may write, with its MD5 where that is known.
    """

    title: str
    folder: Path
    archives: Sequence[str]
    written: Sequence[tuple[Path, str | None]]

    @property
    def wanted(self) -> str:
        return f"put {', '.join(self.archives)} into {self.folder}"

    def damaged(self) -> Path | None:
        """The first file that is there and does not match its MD5."""
        return next((path for path, md5 in self.written if path.is_file() and md5 and not matches(path, md5)), None)


def matches(path: Path, md5: str | None) -> bool:
    """Whether `path` is a file with this MD5. Without one nothing matches: it cannot be known to be whole."""
    from torchvision.datasets.utils import check_integrity

    return md5 is not None and bool(check_integrity(path, md5))


def fetch(download: Callable[[], object], files: Files, root: Path, progress: Progress | None) -> None:
    """Run torchvision's own `download`, which puts `files` where they belong.

    Raises:
        DataError: it failed; what it wrote and is not known to be whole is gone.
        StorageError: the folder cannot be written.
    """
    before = {path: _stamp(path) for path, _ in files.written}
    new = [folder for folder in (files.folder, *files.folder.parents) if not folder.exists()]
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _reporting(f"downloading {files.title}", progress):
            download()
    except BaseException as error:  # Ctrl-C too: a half-unpacked file would pass for a whole one next time
        for path, md5 in files.written:
            if _stamp(path) != before[path] and not matches(path, md5):
                _remove(path)
        for folder in new:  # nothing came, so leave no empty folder behind
            with suppress(OSError):
                folder.rmdir()
        if not isinstance(error, Exception):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, OSError) and error.errno in _STORAGE:
            raise StorageError(
                f"{root}: cannot be written ({reason}); free or allow it, or set dataset.root"
            ) from error
        advice = f"{files.wanted} or set dataset.root"
        raise DataError(f"{root}: could not download {files.title} ({reason}); {advice}") from error


def _stamp(path: Path) -> tuple[int, int] | None:
    with suppress(OSError):
        status = path.stat()
        return status.st_size, status.st_mtime_ns
    return None


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


@contextmanager
def _reporting(what: str, progress: Progress | None) -> Iterator[None]:
    """Swap the tqdm bar that torchvision would print for calls of `progress`, and give stalled connections an end."""
    from torchvision.datasets import utils

    class Bar:
        def __init__(self, total: int | None = None, **_: Any):
            self.done, self.total = 0, total or 0

        def update(self, n: int) -> None:
            self.done += n
            if progress:
                progress(what, self.done, self.total)

        def __enter__(self) -> "Bar":
            return self

        def __exit__(self, *_: object) -> None:
            pass

    tqdm, timeout = utils.tqdm, socket.getdefaulttimeout()
    utils.tqdm = Bar
    socket.setdefaulttimeout(_STALLED)
    try:
        yield
    finally:
        utils.tqdm = tqdm
        socket.setdefaulttimeout(timeout)
