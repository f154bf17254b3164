"""The pictures in a folder, and the classes that its subfolders define."""

import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm")
_IGNORED = {"__MACOSX", "Thumbs.db"}  # what macOS and Windows leave behind


def list_pictures(root: Path) -> list[Path]:
    """All pictures below `root`, at any depth, sorted by path, folder by folder.

    Hidden names and `__MACOSX` are ignored. Symbolic links are followed, but no folder is read twice, so link loops
    end and a folder that can be reached in two ways does not repeat its pictures.

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
        # links last: a picture that a link also leads to gets the class of its real folder
        folder = folders.pop() if folders else links.pop()
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            for entry in sorted(os.scandir(folder), key=lambda e: e.name, reverse=True):  # popped in ascending order
                if entry.name.startswith(".") or entry.name in _IGNORED:
                    continue
                if entry.is_dir():
                    (links if entry.is_symlink() else folders).append(folder / entry.name)
                elif entry.name.lower().endswith(SUFFIXES) and entry.is_file():
                    found.append(folder / entry.name)
        except OSError as error:
            advice = "fix its permissions or set dataset.root=FOLDER"
            raise DataError(f"{folder}: cannot be read ({error.strerror}); {advice}") from error
    return found


def find_classes(root: Path, files: Sequence[Path]) -> tuple[list[str], list[int]]:
    """The sorted class names and the class index of every file; ([], zeros) when the folders define no classes.

    The first folder level names the classes when no picture lies in `root` itself and at least two of its folders
    hold pictures. A single folder (`photos/images/*.png`) is not a class.
    """
    depth = len(root.parts)
    relative = [file.parts[depth:] for file in files]
    names = sorted({parts[0] for parts in relative})
    if any(len(parts) == 1 for parts in relative) or len(names) < 2:
        return [], [0] * len(files)
    index = {name: i for i, name in enumerate(names)}
    return names, [index[parts[0]] for parts in relative]
