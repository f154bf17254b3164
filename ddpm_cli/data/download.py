"""Runs torchvision's downloads with progress reports, one-line errors and no incomplete files left behind."""

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
    """The files that a download fetches.

    Args:
        title: the name of the dataset in torchvision.
        folder: the folder that its archives belong in.
        archives: their names, for the message that asks the user to put them there.
        written: everything that a download may write, with its MD5 if that is known.
    """

    title: str
    folder: Path
    archives: Sequence[str]
    written: Sequence[tuple[Path, str | None]]

    @property
    def advice(self) -> str:
        """What a user can do instead of downloading."""
        return f"put {', '.join(self.archives)} into {self.folder}"

    def damaged(self) -> Path | None:
        """The first existing file that does not match its MD5."""
        return next((path for path, md5 in self.written if path.is_file() and md5 and not matches(path, md5)), None)


def matches(path: Path, md5: str | None) -> bool:
    """Whether `path` is a file with this MD5; False without an MD5, as the file may then be incomplete."""
    from torchvision.datasets.utils import check_integrity

    return md5 is not None and bool(check_integrity(path, md5))


def fetch(
    download: Callable[[], object], files: Files, root: Path, progress: Progress | None, doing: str = "downloading"
) -> None:
    """Run torchvision's own `download`, which puts `files` where they belong.

    Args:
        doing: what it does, for messages.

    Raises:
        DataError: it failed; files that it wrote are removed unless their MD5 matches.
        StorageError: the folder cannot be written.
    """
    before = {path: _stamp(path) for path, _ in files.written}
    new = [folder for folder in (files.folder, *files.folder.parents) if not folder.exists()]
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _reporting(f"{doing} {files.title}", progress):
            download()
    except BaseException as error:  # Ctrl-C too: the next run would take an incomplete file for a complete one
        for path, md5 in files.written:
            if _stamp(path) != before[path] and not matches(path, md5):
                _remove(path)
        for folder in new:  # leave no empty folder behind
            with suppress(OSError):
                folder.rmdir()
        if not isinstance(error, Exception):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, OSError) and error.errno in _STORAGE:
            advice = "free some space, fix its permissions or set dataset.root=FOLDER"
            raise StorageError(f"{root}: cannot be written ({reason}); {advice}") from error
        advice, damaged = f"{files.advice} or set dataset.root=FOLDER", files.damaged()
        if damaged is not None and _stamp(damaged) == before[damaged]:
            what = f"is damaged or another file, and {doing} {files.title} failed ({reason})"
            raise DataError(f"{damaged}: {what}; remove it, then {advice}") from error
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
    """Replace torchvision's tqdm bar by calls of `progress`, and give connections a timeout."""
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
