"""Any exception -> the one line a user reads and the exit code of the process."""

import errno

from .errors import DdpmError, OutOfMemoryError, Stopped, StorageError

INTERRUPTED, UNEXPECTED = 130, 1


def explain(error: BaseException) -> tuple[str, int]:
    """(message, exit code). Never raises; an exception nobody foresaw is code 1 and asks for debug=true."""
    if isinstance(error, DdpmError | Stopped):
        return str(error), error.code
    if isinstance(error, KeyboardInterrupt):
        return "interrupted: stopped before it could save; run the same command again", INTERRUPTED
    if isinstance(error, SystemExit) and isinstance(error.code, int):
        return "", error.code
    if _out_of_memory(error):
        advice = "set trainer.micro_batch_size=auto and trainer.gradient_checkpointing=true (sampling: batch_size=auto)"
        return f"memory: not enough ({_first_line(error)}); {advice}", OutOfMemoryError.code
    if isinstance(error, OSError):
        return _storage(error), StorageError.code
    where = type(error).__name__
    return f"{where}: {_first_line(error)}; this is a bug, debug=true shows where", UNEXPECTED


def _storage(error: OSError) -> str:
    name = error.filename or "file"
    advice = {
        errno.ENOSPC: "free some space, then run the same command again",
        errno.EDQUOT: "free some space, then run the same command again",
        errno.EACCES: "choose a folder you may write to",
        errno.EPERM: "choose a folder you may write to",
        errno.EROFS: "choose a folder you may write to",
        errno.ENOTDIR: "a file is in the way; choose another folder",
        errno.EEXIST: "a file is in the way; choose another folder",
    }.get(error.errno or 0, "check the path and the disk")
    return f"{name}: {error.strerror or _first_line(error)}; {advice}"


def _out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True  # torch.OutOfMemoryError by name, so that a usage error need not import torch
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
