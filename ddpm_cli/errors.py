"""Exception types with their exit codes, and the one-line message of any exception.

Every message has the form ``<key or file>: <what is wrong>; <what to do>`` and is shown as one line on stderr.
"""

import errno
import re

INTERRUPTED, UNEXPECTED = 130, 1
"""Exit codes of an uncaught interrupt, and of a bug."""
NO_MEMORY = (
    "can't allocate memory",
    "Cannot allocate memory",
    "not enough memory",
    "bad_alloc",
    "MPS backend out of memory",
)
"""What torch says on Linux and macOS, on Windows, of small objects, and on a Mac's GPU."""
ONEDNN_NO_MEMORY = ("could not create a primitive", "could not execute a primitive", "could not create a memory object")
"""oneDNN does not say why: where it has a kernel at all, there was no memory for its code or its scratchpad."""
IN_USE = (32, 33, 1224)
"""Windows' codes for a file that another program has open, locked or mapped."""


class DdpmError(Exception):
    """An error a user can act on. `code` is the exit status of the process."""

    code = 1


class ConfigError(DdpmError):
    """A wrong key, value, group or option."""

    code = 2


class DataError(DdpmError):
    """Images that are missing, empty, unreadable or of the wrong kind."""

    code = 3


class CheckpointError(DdpmError):
    """A checkpoint that is missing, damaged or in another format."""

    code = 4


class NewerFormatError(CheckpointError):
    """A checkpoint that a newer version has written. No older one is used in its place, which would undo its work."""


class NonFiniteError(DdpmError):
    """A loss, gradient or sample that is NaN or infinite."""

    code = 5


class StorageError(DdpmError):
    """A file that cannot be written: no space, no permission."""

    code = 6


class OutOfMemoryError(DdpmError):
    """Not enough memory on the device or the host."""

    code = 7


class BusyError(DdpmError):
    """A run directory that another process is using."""

    code = 8


class Stopped(KeyboardInterrupt):
    """A run that a signal stopped after it saved. Not an `Exception`, so that a sweep does not start its next job."""

    def __init__(self, number: int | None, what: str, run_dir: str = "the same run_dir", sweep_dir: str = ""):
        """run_dir, sweep_dir: the override that resumes the run, or the sweep if the run is a job of one."""
        super().__init__(f"{what}; to resume, run the same command with {run_dir}")
        self.what, self.sweep_dir = what, sweep_dir
        self.code = 128 + (number or 2)

    def in_sweep(self, place: str | None = None) -> str:
        """The message for a job of a sweep. place: the override that resumes it, if not the folder above the job's."""
        place = self.sweep_dir if place is None else place
        return f"{self.what}; to resume the sweep, run the same command{' with ' if place else ''}{place}"


def explain(error: BaseException) -> tuple[str, int]:
    """(message, exit code) of any exception. Never raises; for an unexpected one, code 1 and the advice debug=true."""
    if isinstance(error, DdpmError | Stopped):
        return str(error), error.code
    if isinstance(error, KeyboardInterrupt):
        number = getattr(error, "number", INTERRUPTED - 128)  # of a signal
        return "interrupted: stopped without saving; run the same command again", 128 + number
    if isinstance(error, SystemExit) and isinstance(error.code, int):
        return "", error.code
    if out_of_memory(error):
        advice = (
            "set trainer.micro_batch_size=auto and trainer.gradient_checkpointing=true (sampling: batch_size=auto), or "
            "a smaller model.channels or dataset.size"
        )
        return f"memory: not enough ({shortage(error)}); {advice}", OutOfMemoryError.code
    if isinstance(error, OSError):
        return _storage(error), StorageError.code
    name = type(error).__name__
    return f"{name}: {first_line(error)}; this is a bug, add debug=true to see where", UNEXPECTED


def _storage(error: OSError) -> str:
    name = error.filename or "file"
    if getattr(error, "winerror", None) in IN_USE:
        return f"{name}: {error.strerror}; close that program, then run the same command again"
    advice = {
        errno.ENOSPC: "free some space, then run the same command again",
        errno.EDQUOT: "free some space, then run the same command again",
        errno.EFBIG: "allow larger files (ulimit -f unlimited), or choose another disk",
        errno.EMFILE: "allow more open files (ulimit -n 4096), then run the same command again",
        errno.ENFILE: "close other programs, then run the same command again",
        errno.EACCES: "choose a folder you may write to",
        errno.EPERM: "choose a folder you may write to",
        errno.EROFS: "choose a folder you may write to",
        errno.ENOTDIR: "a file is in the way; choose another folder",
        errno.EEXIST: "a file is in the way; choose another folder",
    }.get(error.errno or 0, "check the path and the disk")
    return f"{name}: {error.strerror or first_line(error)}; {advice}"


def out_of_memory(error: BaseException) -> bool:
    """Whether the device or the host has too little memory, in the words of torch or of the system."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True  # torch.OutOfMemoryError by name, so that usage errors do not import torch
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if isinstance(error, ImportError):  # of a library of torch, under a limit of the shell
        return "failed to map segment" in str(error)
    if not isinstance(error, RuntimeError):
        return False
    return str(error) in ONEDNN_NO_MEMORY or any(text in str(error) for text in NO_MEMORY)


def shortage(error: BaseException) -> str:
    """What a device or host had no memory for, for a message."""
    asked = re.search(r"allocate (\d+) bytes", str(error))
    return f"for another {int(asked[1]) / 2**20:,.0f} MiB" if asked else first_line(error)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or the name of its class."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
