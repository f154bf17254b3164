"""The samples to evaluate: drawn from a checkpoint, or read from files."""

import logging
import math
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from ..files import read_sealed
from ..progress import Progress, plural
from ..runs.checkpoint import digest
from ..sampling.generator import Generator
from ..sampling.kept import Kept
from ..sampling.request import Request

log = logging.getLogger(__name__)


class SampleSet(NamedTuple):
    """pixels (N,C,H,W) uint8; labels (N,) int64 or None; facts: how they were drawn, as in sample.json; classes: the
    name of the class of each image, if known.
    """

    pixels: Tensor
    labels: Tensor | None
    facts: dict[str, Any]
    classes: list[str] | None = None


class PendingSamples(NamedTuple):
    """n samples that `draw` will draw. labels: (n,) their classes, or None."""

    n: int
    labels: Tensor | None
    draw: Callable[[Progress, Kept | None], SampleSet]


def pending(run: Generator, request: Request, batch_size: int) -> PendingSamples:
    """Check a request now, and draw its samples later. A class-conditional model draws all classes in turn.

    Raises:
        ConfigError: a sampler, guidance or prior that does not fit the model.
    """
    pipeline = run.pipeline(request, batch_size, compile=False)
    task = pipeline.task
    facts = pipeline.described | {"seeds": list(task.seeds)}

    def draw(progress: Progress, kept: Kept | None = None) -> SampleSet:
        samples = pipeline(progress, kept)
        return SampleSet(samples.images, samples.classes, facts, samples.facts.get("classes"))

    return PendingSamples(task.n, task.labels, draw)


def read(samples: str, n: int | None) -> SampleSet:
    """The first `n` of DIR/samples.npz or FILE.npz: arr_0 uint8 (N,H,W,C) and, optionally, arr_1 (N,) classes.

    Raises:
        DataError: the file is missing, cannot be read, or has other arrays.
    """
    given = Path(samples)
    path = given / "samples.npz" if given.is_dir() else given
    if not path.is_file():
        raise DataError(f"samples: there is no {path}; name an out folder of ddpm sample or an npz file")
    try:
        _check_sizes(path)
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: np.asarray(file[name]) for name in ("arr_0", "arr_1") if name in file.files}
    except MemoryError:
        raise
    except Exception as error:  # a damaged archive makes zipfile and NumPy raise nearly anything
        raise DataError(f"samples: {path} cannot be read as npz; write one with numpy.savez") from error
    pixels, labels = _checked(path, arrays.get("arr_0"), arrays.get("arr_1"))
    if (path.parent / "images").is_dir():
        log.info("samples: reading %s; the files in images/ are not used", path)
    facts = _facts(path.parent / "sample.json", len(pixels), digest(path), given.is_dir())
    if isinstance(seeds := facts.get("seeds"), list):
        facts["seeds"] = seeds[:n]
    return SampleSet(pixels[:n], None if labels is None else labels[:n], facts)


def _check_sizes(path: Path) -> None:
    """Raises ValueError if an array says that it is larger than the archive says that its file is."""
    with zipfile.ZipFile(path) as archive:
        for name in ("arr_0.npy", "arr_1.npy"):
            if name not in archive.namelist():
                continue
            with archive.open(name) as file:
                version = np.lib.format.read_magic(file)
                head = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, kind = head(file)
            if math.prod(shape) * kind.itemsize > archive.getinfo(name).file_size:
                raise ValueError(f"{name} is smaller than its shape {shape}")


def _checked(path: Path, images: np.ndarray | None, labels: np.ndarray | None) -> tuple[Tensor, Tensor | None]:
    """The arrays as pixels and labels. Raises DataError unless they have the layout that public evaluators use."""
    good = images is not None and images.dtype == np.uint8 and images.ndim == 4 and images.shape[-1] in (1, 3)
    if images is None or not good or not len(images):
        what = "is missing" if images is None else f"is {images.dtype} {images.shape}"
        raise DataError(f"samples: arr_0 of {path} {what}; it must be uint8 (N,H,W,C) with C 1 or 3")
    if labels is not None and (labels.shape != images.shape[:1] or labels.dtype.kind not in "iu"):
        raise DataError(f"samples: arr_1 of {path} is {labels.dtype} {labels.shape}; it must be (N,) whole numbers")
    pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    return pixels, None if labels is None else torch.from_numpy(labels.astype(np.int64))


def _facts(path: Path, count: int, sha256: str, expected: bool) -> dict[str, Any]:
    """The facts from the sample.json beside the samples, if it describes them; and their digest.

    Args:
        expected: whether a line says that it is missing.
    """
    facts, problem = {}, ""
    try:
        facts = read_sealed(path)
    except FileNotFoundError:
        problem = "is missing"
    except (OSError, ValueError):
        problem = "is damaged"
    if not problem and not (isinstance(facts, dict) and facts.get("n") == count):
        problem = f"is not of {plural(count, 'sample')}"
    if not problem and facts.get("samples_sha256", sha256) != sha256:
        problem = "is of other samples"
    if problem and (expected or path.exists()):
        log.info("samples: %s %s, so it is not known how they were drawn", path, problem)
    if problem:
        facts = {}
    return {**{k: v for k, v in facts.items() if k != "digest"}, "samples_sha256": sha256}
