"""The samples that are evaluated: drawn from a checkpoint, or read from files."""

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from ..progress import Progress
from ..sampling.generator import Generator
from ..sampling.request import Request


class SampleSet(NamedTuple):
    """pixels (N,C,H,W) uint8; labels (N,) int64 or None; facts: how they were drawn, in the words of sample.json."""

    pixels: Tensor
    labels: Tensor | None
    facts: dict[str, Any]


class PendingSamples(NamedTuple):
    """n samples of these labels (n,), or of none, that `draw` makes."""

    n: int
    labels: Tensor | None
    draw: Callable[[Progress], SampleSet]


def pending(run: Generator, request: Request, batch_size: int) -> PendingSamples:
    """What draws the samples of a request, all classes in turn where the model knows some. Checked now, drawn later.

    Raises:
        ConfigError: sampler, guidance or prior that do not suit the model.
    """
    pipeline = run.pipeline(request, batch_size, compile=False)
    task = pipeline.task
    facts = pipeline.described | {"seeds": list(task.seeds)}

    def draw(progress: Progress) -> SampleSet:
        samples = pipeline(progress)
        return SampleSet(samples.images, samples.classes, facts)

    return PendingSamples(task.n, task.labels, draw)


def read(samples: str, n: int | None) -> SampleSet:
    """The first `n` of DIR/samples.npz or FILE.npz: arr_0 uint8 (N,H,W,C) and, where there is one, arr_1 (N,) classes.

    Raises:
        DataError: it is missing, cannot be read or has other arrays.
    """
    where = Path(samples)
    path = where / "samples.npz" if where.is_dir() else where
    if not path.is_file():
        raise DataError(f"samples: there is no {path}; name an out folder of ddpm sample or an npz file")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in ("arr_0", "arr_1") if name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"samples: {path} cannot be read as npz; write one with numpy.savez") from error
    pixels, labels = _checked(path, arrays.get("arr_0"), arrays.get("arr_1"))
    facts = _facts(path.parent / "sample.json", len(pixels), hashlib.sha256(path.read_bytes()).hexdigest())
    if isinstance(seeds := facts.get("seeds"), list):
        facts["seeds"] = seeds[:n]
    return SampleSet(pixels[:n], None if labels is None else labels[:n], facts)


def _checked(path: Path, images: np.ndarray | None, labels: np.ndarray | None) -> tuple[Tensor, Tensor | None]:
    """Raises DataError for arrays of another kind than public evaluators take."""
    good = images is not None and images.dtype == np.uint8 and images.ndim == 4 and images.shape[-1] in (1, 3)
    if images is None or not good or not len(images):
        what = "is not there" if images is None else f"is {images.dtype} {images.shape}"
        raise DataError(f"samples: arr_0 of {path} {what}; it must be uint8 (N,H,W,C) with C 1 or 3")
    if labels is not None and (labels.shape != images.shape[:1] or labels.dtype.kind not in "iu"):
        raise DataError(f"samples: arr_1 of {path} is {labels.dtype} {labels.shape}; it must be (N,) whole numbers")
    pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    return pixels, None if labels is None else torch.from_numpy(labels.astype(np.int64))


def _facts(path: Path, count: int, sha256: str) -> dict[str, Any]:
    """sample.json, where it lies beside the samples and is about so many; else nothing is known of them."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        facts = {}
    mine = isinstance(facts, dict) and facts.get("n") == count
    return {**(facts if mine else {}), "samples_sha256": sha256}
