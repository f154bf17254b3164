"""What another system refuses to do with files, put in by audit hooks: Python calls them before each such operation.

Files that Rust or C++ code opens are not seen, but what has them open or mapped is: the system is asked for that.
"""

import errno
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

Refuse = Callable[[str, tuple[Any, ...]], None]
RESERVED = re.compile(r"(con|prn|aux|nul|(com|lpt)[0-9])( *\..*)?", re.IGNORECASE)
SAME_NAME = 77
"""Exit code of a program that makes two names which differ only in case. No other way to say so is heard for certain:
a folder that does not tell such names apart gives no error, but the wrong file."""
_busy = threading.local()


def install(*refusals: Refuse) -> None:
    """Call each of `refusals` with the name and the arguments of an audit event. It cannot be taken back."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event.partition(".")[0] not in ("open", "os", "mmap") or getattr(_busy, "on", False):
            return
        _busy.on = True
        try:
            for refuse in refusals:
                refuse(event, arguments)
        finally:
            _busy.on = False

    sys.addaudithook(hook)


def _path(value: Any) -> Path | None:
    return Path(os.fsdecode(value)).absolute() if isinstance(value, str | bytes | os.PathLike) else None


def _made(event: str, arguments: tuple[Any, ...]) -> Iterator[Path]:
    """The paths that an operation makes."""
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_CREAT:
        paths = [arguments[0]]
    else:
        paths = {"os.mkdir": arguments[:1], "os.rename": arguments[1:2], "os.symlink": arguments[1:2]}.get(event, [])
    yield from (path for path in map(_path, paths) if path)


def system_files(event: str, arguments: tuple[Any, ...]) -> None:
    """There is neither /proc nor /sys."""
    path = _path(arguments[0]) if event == "open" else None
    if path and str(path).startswith(("/proc/", "/sys/")) and not _called_by("threadpoolctl"):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))


def symbolic_links(event: str, arguments: tuple[Any, ...]) -> None:
    """Windows: only administrators, and developers who switched it on, may make one."""
    if event == "os.symlink":
        raise OSError(errno.EINVAL, "A required privilege is not held by the client", str(arguments[1]))


def open_folders(event: str, arguments: tuple[Any, ...]) -> None:
    """A folder cannot be opened, and so not synced either."""
    path = _path(arguments[0]) if event == "open" else None
    if path and path.is_dir():
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def used_files(event: str, arguments: tuple[Any, ...]) -> None:
    """A file that this process has open or mapped, or a folder with one, cannot be renamed, replaced or removed."""
    if event in ("os.rename", "os.remove", "os.rmdir") and not _called_by("filelock"):
        for path in filter(None, map(_path, arguments[: 2 if event == "os.rename" else 1])):
            real = path.parent.resolve() / path.name
            if any(used == real or real in used.parents for used in open_or_mapped()):
                raise _in_use(path)


def _in_use(path: Path) -> PermissionError:
    text = "The process cannot access the file because it is being used by another process"
    error = PermissionError(errno.EACCES, text, str(path))
    error.winerror = 32  # type: ignore[attr-defined]
    return error


def _called_by(package: str) -> bool:
    """Whether code of this package does it: two packages take a way here that they do not take on other systems.

    filelock removes files that it has open, threadpoolctl reads /proc to find the libraries of this process.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] == package:
            return True
        frame = frame.f_back
    return False


def open_or_mapped() -> set[Path]:
    """The files that this process has open or mapped."""
    found = set()
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # it was the listing itself
            found.add(link.readlink())
    with Path("/proc/self/maps").open(encoding="utf-8", errors="surrogateescape") as lines:
        fields = (line.rstrip("\n").split(None, 5) for line in lines)
        return found | {Path(f[5]) for f in fields if len(f) == 6}


def names(event: str, arguments: tuple[Any, ...]) -> None:
    """No new name may hold <>:"|?* or a control character, end in a dot or a space, or be that of a device."""
    for path in _made(event, arguments):
        for part in path.parts[1:]:
            if re.search(r'[<>:"|?*\\\x00-\x1f]|[. ]$', part) or RESERVED.fullmatch(part):
                raise OSError(
                    errno.EINVAL, "The filename, directory name, or volume label syntax is incorrect", str(path)
                )


def case_folded_names(event: str, arguments: tuple[Any, ...]) -> None:
    """No folder gets two names that differ only in case."""
    for path in _made(event, arguments):
        others = [p.name for p in (path.parent.iterdir() if path.parent.is_dir() else []) if p.name != path.name]
        if path.name.casefold() in map(str.casefold, others):
            os.write(2, f"{path}: differs only in case from another name in its folder\n".encode())
            os._exit(SAME_NAME)
