"""Which pictures a folder holds, and which classes its sub-folders spell out."""

import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm")
_IGNORED = {"__MACOSX", "Thumbs.db"}  # what macOS and Windows leave behind


def list_pictures(root: Path) -> list[Path]:
    """Every picture below `root`, at any depth, sorted by its path's parts.

    Hidden names and `__MACOSX` are ignored. Links are followed, but no folder is read twice, so loops end and a
    folder that is linked a second time does not repeat its pictures.

    Raises:
        DataError: `root` is missing, not a folder or unreadable, or holds no pictures.
    """
    if not root.is_dir():
        wrong = "is not a folder" if root.exists() else "does not exist"
        raise DataError(f"{root}: {wrong}; set dataset.root=FOLDER")
    found = _walk(root)
    if not found:
        raise DataError(f"{root}: has no pictures ({' '.join(SUFFIXES)}); put some there or set dataset.root=FOLDER")
    return sorted(found, key=lambda file: file.parts)


def _walk(root: Path) -> list[Path]:
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    folders: list[Path] = [root]
    links: list[Path] = []
    while folders or links:
        # links last: a picture reached both ways keeps the class of the folder that it lies in
        folder = folders.pop() if folders else links.pop()
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            for entry in sorted(os.scandir(folder), key=lambda e: e.name, reverse=True):  # popped in rising order
                if entry.name.startswith(".") or entry.name in _IGNORED:
                    continue
                if entry.is_dir():
                    (links if entry.is_symlink() else folders).append(folder / entry.name)
                elif entry.name.lower().endswith(SUFFIXES) and entry.is_file():
                    found.append(folder / entry.name)
        except OSError as error:
            raise DataError(f"{folder}: cannot be read ({error.strerror}); allow it or set dataset.root") from error
    return found


def find_classes(root: Path, files: Sequence[Path]) -> tuple[list[str], list[int]]:
    """The class names, sorted, and every file's class; ([], zeros) when the layout spells out no classes.

    The first folder level names the classes when no picture lies in `root` itself and at least two of its folders
    hold pictures. A single folder is a wrapper (`photos/images/*.png`), not a class.
    """
    depth = len(root.parts)
    tops = [file.parts[depth:] for file in files]
    names = sorted({parts[0] for parts in tops})
    if any(len(parts) == 1 for parts in tops) or len(names) < 2:
        return [], [0] * len(files)
    index = {name: i for i, name in enumerate(names)}
    return names, [index[parts[0]] for parts in tops]
