"""outputs/latest, which points at the newest run: a symbolic link, or a text file where links cannot be made.

Windows lets only administrators and developers make links, and some disks have none at all. The text file has one line,
`run: PATH`, with a path relative to its folder, or an absolute one for another drive.
"""

import logging
import os
import re
from pathlib import Path

from ..files import read_regular, write_atomically

LATEST = Path("outputs", "latest")
LONGEST = 2**16
"""The most bytes of the text file."""
log = logging.getLogger(__name__)


def point_latest(folder: Path) -> None:
    """Point outputs/latest at the run in `folder`. If that fails, it is only logged."""
    try:
        LATEST.parent.mkdir(exist_ok=True)
        target = _relative(folder.resolve(), LATEST.parent.resolve())
        if os.name == "nt" or not _linked(target):
            write_atomically(LATEST, lambda path: path.write_text(f"run: {target}\n", encoding="utf-8"))
    except OSError as error:
        log.info("could not update outputs/latest (%s)", error.strerror)


def followed(path: Path) -> Path:
    """`path` with the run that the text file outputs/latest names in its place; other paths as they are."""
    for part in (path, *path.parents):
        if part.name == LATEST.name and part.is_file():
            match = re.fullmatch(r"run: (.+)\n", _text(part))
            return part.parent / match[1] / path.relative_to(part) if match else path
    return path


def _text(path: Path) -> str:
    try:
        return read_regular(path, LONGEST).decode("utf-8", "replace")
    except (OSError, ValueError):
        return ""


def _relative(folder: Path, start: Path) -> str:
    try:
        return os.path.relpath(folder, start)
    except ValueError:  # another drive
        return str(folder)


def _linked(target: str) -> bool:
    """Make the link, in place of an older one. Returns whether that is possible."""
    _remove_stale()
    fresh = LATEST.with_name(f".{LATEST.name}.{os.getpid()}")
    try:
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(target)
    except OSError:
        return False
    try:
        fresh.replace(LATEST)
    finally:
        fresh.unlink(missing_ok=True)
    return True


def _remove_stale() -> None:
    """Remove the links that killed processes left before they gave them their name."""
    for link in LATEST.parent.glob(f".{LATEST.name}.*"):
        number = link.name.rpartition(".")[2]
        if os.name == "posix" and number.isdecimal() and link.is_symlink() and not _runs(int(number)):
            link.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
