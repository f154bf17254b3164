"""Locks of folders, which die with the process that holds them, also where the file system has none.

Some network file systems have no locks. There the lock is a file in the temporary folder of the machine, named after
the path. It stops a second process of the same user on this machine, but not on another one. The user is warned.
"""

import errno
import hashlib
import inspect
import logging
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from .files import naming, shown

NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)
"""What file systems without locks say."""
NATIVE: dict[str, Any] = (
    {"fallback_to_soft": False} if "fallback_to_soft" in inspect.signature(FileLock).parameters else {}
)
"""For `FileLock`, where it would otherwise use a file that stays when its process is killed."""
log = logging.getLogger(__name__)


class Lock:
    """The lock of a folder, held from here until `release` or the end of the process.

    Args:
        path: the file that is locked, which is made if it is missing.

    Raises:
        Timeout: another process holds it.
        OSError: it cannot be made.
    """

    def __init__(self, path: Path):
        self.path, self._lock = path, FileLock(path, timeout=0, **NATIVE)
        with naming(path):
            if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):  # it would be emptied at its end
                raise OSError(errno.EINVAL, "is a link, or no file", str(path))
            try:
                self._lock.acquire()
            except Timeout:
                raise
            except (OSError, NotImplementedError) as error:  # the latter of older versions of filelock
                if isinstance(error, OSError) and error.errno not in NO_LOCKS:
                    raise
                self._lock = self._elsewhere()
        if not self.in_place:  # the process before has removed it meanwhile
            self._lock.release()
            raise Timeout(str(path))

    @property
    def in_place(self) -> bool:
        """Whether the locked file is still the one at `path`."""
        handle = getattr(getattr(self._lock, "_context", None), "lock_file_fd", None)
        if os.name != "posix":
            return True
        try:
            status = self.path.stat()
            local = Path(self._lock.lock_file) != self.path
            return local or handle is None or os.path.samestat(os.fstat(handle), status)
        except FileNotFoundError:
            return False

    def release(self) -> None:
        with suppress(OSError):  # it ends with the process
            self._lock.release()

    def _elsewhere(self) -> FileLock:
        """A lock in the temporary folder."""
        folder = Path(tempfile.gettempdir(), f"ddpm-cli-{os.getuid() if os.name == 'posix' else 'locks'}")
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or (os.name == "posix" and status.st_uid != os.getuid()):
            raise PermissionError(errno.EPERM, "is not a folder of yours", str(folder))
        self.path.touch()
        name = hashlib.sha256(str(self.path.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:32]
        lock = FileLock(folder / f"{name}.lock", timeout=0, **NATIVE)
        lock.acquire()
        log.warning(
            "%s: its file system has no locks; do not use the folder from another machine at the same time",
            shown(self.path.parent),
        )
        return lock
