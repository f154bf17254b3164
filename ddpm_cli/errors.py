"""What can go wrong for a user, as exception types that carry the process's exit code.

Every message reads ``<key or file>: <what is wrong>; <what to do>`` and is shown as one line on stderr.
"""


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
    """A checkpoint that is missing, damaged or of another format."""

    code = 4


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
    """A signal asked a run to stop, and it has saved. Not an `Exception`: a sweep must not go on with its next job."""

    def __init__(self, number: int | None, what: str):
        super().__init__(f"{what}; run the same command with that run_dir to go on")
        self.code = 128 + (number or 2)
