"""The pictures in a folder, and the classes and splits that its subfolders define."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import DataError
from ..ours import SIGNS, is_signed, listed
from ..progress import plural
from ..text import named, printable
from .formats import format_at, missing_package

SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jfif", ".jpe", ".bmp", ".webp", ".gif", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2",
)  # fmt: skip
"""Files with these suffixes are meant to be pictures; of others, the first bytes decide."""
_IGNORED = {"__MACOSX", "Icon\r", "Thumbs.db", "desktop.ini", "@eaDir", "$RECYCLE.BIN", "System Volume Information"}
HEAD_OF_GIF = 4096
"""Bytes in which a GIF of ours has its signature: it follows the colours of the first frame."""


@dataclass
class Found:
    """What lies below a folder: its pictures, and what was left out.

    Args:
        others: kind -> the number of files that are left out.
        empty: folders of the first level without pictures.
        ours: the number of pictures that this program wrote.
    """

    root: Path
    pictures: list[Path] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    lacking: Counter[str] = field(default_factory=Counter)
    empty: list[str] = field(default_factory=list)
    ours: int = 0

    @property
    def relative(self) -> list[tuple[str, ...]]:
        """The parts of each picture's path below the root."""
        depth = len(self.root.parts)
        return [file.parts[depth:] for file in self.pictures]

    def lines(self) -> Iterator[str]:
        """What was left out, one line for each reason."""
        if self.others:
            kinds = ", ".join(f"{n:,} {kind}" for kind, n in self.others.most_common(8))
            more = ", ..." if len(self.others) > 8 else ""
            yield f"left out {plural(self.others.total(), 'file')} without a picture: {kinds}{more}"
        for kind, n in self.lacking.items():
            yield f"left out {plural(n, f'{kind} picture')}, which cannot be read; pip install 'ddpm-cli[heif]'"
        if self.empty:
            yield f"no pictures in {plural(len(self.empty), 'folder')}: {named(self.empty)}"
        if self.ours:
            yield f"left out {plural(self.ours, 'picture')} that this program wrote"


def find_pictures(root: Path) -> Found:
    """All pictures below `root`, at any depth, sorted by path, folder by folder.

    Hidden names, what systems leave behind (`__MACOSX`, `Thumbs.db`) and what this program wrote are left out. Symbolic
    links are followed, but no folder is read twice, so link loops end and a folder that can be reached in two ways
    does not repeat its pictures.

    Raises:
        DataError: `root` is missing, not a folder or unreadable, or holds no pictures.
    """
    if not root.is_dir():
        wrong = "is not a folder" if root.exists() else "does not exist"
        raise DataError(f"{root}: {wrong}; set dataset.root=FOLDER")
    found = Found(root)
    _walk(found)
    if not found.pictures:
        left_out = ", ".join(found.lines())
        if found.lacking:
            raise DataError(f"{root}: has no pictures that can be read: {left_out}, or set dataset.root=FOLDER")
        left_out = f", {left_out}" if left_out else ""
        raise DataError(
            f"{root}: has no pictures ({' '.join(SUFFIXES)}){left_out}; put some there or set dataset.root=FOLDER"
        )
    found.pictures.sort(key=lambda file: file.parts)
    filled = {parts[0] for parts in found.relative if len(parts) > 1}
    found.empty = sorted(name for name in found.empty if name not in filled)
    return found


def _walk(found: Found) -> None:
    """Fill `found`, unsorted, with every folder of the first level as an empty one."""
    seen: set[tuple[int, int]] = set()
    above: dict[Path, frozenset[str]] = {}  # folder -> our files in it, as the list of its parent has them
    with_ours, depth = set[str](), len(found.root.parts)
    folders: list[Path] = [found.root]
    links: list[Path] = []
    while folders or links:
        # links last: a picture that a link also leads to gets the class of its real folder
        folder = folders.pop() if folders else links.pop()
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            entries = sorted(os.scandir(folder), key=lambda e: e.name, reverse=True)  # popped in ascending order
            own = above.pop(folder, frozenset())
            if any(e.name in SIGNS for e in entries):
                own |= listed(folder)
            for entry in entries:
                if entry.name.startswith(".") or entry.name in _IGNORED:
                    continue
                path = folder / entry.name
                if _is_folder(entry):
                    if f"{entry.name}/" in own:
                        found.ours += sum(1 for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
                        with_ours.add(path.parts[depth])
                        continue
                    inside = f"{entry.name}/"
                    above[path] = frozenset(n[len(inside) :] for n in own if n.startswith(inside))
                    if folder == found.root and not entry.is_symlink():
                        found.empty.append(entry.name)
                    (links if entry.is_symlink() else folders).append(path)
                else:
                    if entry.name in own:
                        found.ours += path.suffix.lower() in SUFFIXES
                        with_ours.add(path.parts[depth])
                        continue
                    _file(found, path, entry)
        except OSError as error:
            advice = "fix its permissions or set dataset.root=FOLDER"
            raise DataError(f"{folder}: cannot be read ({error.strerror}); {advice}") from error
    found.empty = [name for name in found.empty if name not in with_ours]


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _file(found: Found, path: Path, entry: "os.DirEntry[str]") -> None:
    suffix = path.suffix.lower()
    if entry.is_symlink() and not path.exists():
        found.others["broken link"] += 1
    elif not entry.is_file():
        found.others["device or pipe"] += 1
    elif suffix == ".gif" and is_signed(path, HEAD_OF_GIF):
        found.ours += 1
    elif suffix in SUFFIXES and suffix != ".avif":
        found.pictures.append(path)
    elif not (kind := format_at(path)):
        found.others[printable(suffix) or "without a suffix"] += 1
    elif missing_package(kind):
        found.lacking[kind] += 1
    else:
        found.pictures.append(path)
