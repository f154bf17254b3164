"""Whether a run was trained here, by this user, or its folder came from elsewhere.

The config in a checkpoint may be a stranger's, so the folder of pictures that it names is only read if the user has
named it: with `root=`, or when training. A manifest therefore says which number (inode) the file system here has given
to the folder of the run. That survives a move of the folder, and no copy or download of it has the same.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

KEY = "folder"


def of(folder: Path) -> dict[str, str]:
    """The entry for the manifests of the run in `folder`; none if the file system does not number folders."""
    try:
        facts = folder.stat()
    except OSError:
        return {}
    return {KEY: hashlib.sha256(f"{facts.st_ino} {facts.st_uid}".encode()).hexdigest()[:16]} if facts.st_ino else {}


def is_here(folder: Path, manifest: Mapping[str, Any]) -> bool:
    """Whether the run of this manifest was trained here, in `folder`."""
    return bool(entry := of(folder)) and manifest.get(KEY) == entry[KEY]
