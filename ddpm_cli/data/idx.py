"""The idx format of the MNIST family, plain or gzipped."""

import gzip
import zlib
from pathlib import Path

import numpy as np

from ..errors import DataError

_UBYTE = 8  # the format's code for unsigned bytes, the only one these sets use


def find_idx(path: Path) -> Path | None:
    """`path` or `path`.gz, whichever exists; `path` first, because it needs no decompression."""
    return next((p for p in (path, path.with_name(path.name + ".gz")) if p.is_file()), None)


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The uint8 array in `path`, which must have `dimensions` dimensions.

    A .gz is decompressed in memory, so the folder may be read-only.

    Raises:
        DataError: the file is truncated, or not in gzip or idx format.
    """
    advice = "remove it and run again"
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}); {advice}") from error
    start = 4 + 4 * dimensions
    if len(data) < start or tuple(data[:4]) != (0, 0, _UBYTE, dimensions):
        raise DataError(f"{path}: is not an idx file with {dimensions} dimensions; {advice}")
    shape = np.frombuffer(data, ">i4", dimensions, 4).astype(np.int64)
    if len(data) != start + int(shape.prod()):
        raise DataError(f"{path}: is truncated or too long for its header; {advice}")
    return np.frombuffer(data, np.uint8, offset=start).reshape(tuple(shape.tolist())).copy()  # bytes are read-only
