"""The folders of commands: which keys name them, and what is removed where a command wrote nothing."""

import os
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

from ..runs.newest import followed
from ..text import home, unquoted


def folder_key(name: str) -> str:
    """The key that names the folder of a command."""
    return "run_dir" if name == "train" else "out"


def folder_of(path: str) -> Path:
    """The folder that `path` names; for the name of a .gif or .mp4 file, its parent."""
    named = Path(home(path))
    return followed(named.parent if named.suffix in (".gif", ".mp4") else named)


def existing(arguments: Sequence[str]) -> set[Path]:
    """Folders that are not removed when they are empty: those that exist before the command runs."""
    assigned = (argument.partition("=") for argument in arguments)
    named = (
        folder_of(unquoted(value)) for key, _, value in assigned if key.lstrip("+") in ("run_dir", "out") and value
    )
    folders = {parent.absolute() for path in (*named, Path("outputs")) for parent in (path, *path.parents)}
    return {Path.cwd(), *(folder for folder in folders if _exists(folder))}


def _exists(path: Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110, Path.exists raises for a name that is too long


def remove_empty(folder: Path, kept: Collection[Path]) -> None:
    """Remove the output folder if it is empty, and its empty parents: Hydra creates it before the command runs."""
    with suppress(OSError):  # the error of the command counts
        while folder not in kept and _exists(folder) and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
            folder = folder.parent
