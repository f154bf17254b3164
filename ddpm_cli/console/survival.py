"""Output that never ends the work: a reader that goes away, a closed terminal or a full disk loses lines, no more."""

import io
import os
import sys
from contextlib import suppress
from typing import TextIO


class _Surviving(io.RawIOBase):
    """Writes to a file descriptor; what cannot be written is lost."""

    def __init__(self, descriptor: int):
        self._descriptor = descriptor

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: "bytes | bytearray | memoryview") -> int:  # type: ignore[override]
        length = len(data)
        with suppress(OSError):
            return os.write(self._descriptor, data)
        return length


def survive() -> None:
    """Make stdout and stderr survive errors, and print characters that their encoding lacks as escapes.

    Streams that something else has put in their place, such as those of notebooks and tests, are only reconfigured.
    """
    sys.stdout = _surviving(sys.stdout, sys.__stdout__)
    sys.stderr = _surviving(sys.stderr, sys.__stderr__)


def _surviving(stream: TextIO | None, original: TextIO | None) -> TextIO:
    if stream is None:  # closed by the shell
        return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123 (stays open until the end)
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    stream.reconfigure(errors="backslashreplace")
    if stream is not original or os.name != "posix" or isinstance(getattr(stream.buffer, "raw", None), _Surviving):
        return stream
    try:
        raw = _Surviving(stream.fileno())
        stream.flush()
    except (OSError, ValueError):
        return stream
    buffered = io.BufferedWriter(raw)  # type: ignore[type-var]
    return io.TextIOWrapper(buffered, stream.encoding, "backslashreplace", line_buffering=True, write_through=True)
