"""The idx format of the MNIST family, plain or gzipped."""

import gzip
import math
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..errors import DataError

_UBYTE = 8  # the format's code for unsigned bytes, the only one these sets use
_BLOCK = 2**24


def find_idx(path: Path) -> Path | None:
    """`path` or `path`.gz, whichever exists; `path` first, because it needs no decompression."""
    return next((p for p in (path, path.with_name(path.name + ".gz")) if p.is_file()), None)


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The uint8 array in `path`, which must have `dimensions` dimensions.

    A .gz is decompressed in memory, so the folder may be read-only.

    Raises:
        DataError: the file is truncated, or not in gzip or idx format.
    """
    advice, start = "remove it and run again", 4 + 4 * dimensions
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            head = file.read(start)
            if len(head) < start or tuple(head[:4]) != (0, 0, _UBYTE, dimensions):
                raise DataError(f"{path}: is not an idx file with {dimensions} dimensions; {advice}")
            shape = tuple(int(n) for n in np.frombuffer(head, ">i4", dimensions, 4))
            data = _bytes(file.read, math.prod(shape))
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}); {advice}") from error
    if data is None or min(shape) < 1:
        raise DataError(f"{path}: is empty, truncated or too long for its header; {advice}")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _bytes(read: Callable[[int], bytes], n: int) -> bytearray | None:
    """The rest of a file; None unless it has n bytes. No more is unpacked, and no memory is taken on trust."""
    data = bytearray()
    while block := read(min(_BLOCK, n + 1 - len(data))) if n >= len(data) else b"":
        data += block
    return data if len(data) == n else None
