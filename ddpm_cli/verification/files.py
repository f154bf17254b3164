"""The files of a run: which checkpoints are valid, and what else of it can be read."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from ..errors import CheckpointError, DdpmError
from ..files import read_json, read_regular, shown
from ..progress import Progress, plural
from ..runs import checkpoint
from ..runs.assemble import network
from ..runs.bounds import check_numbers
from ..runs.checkpoint import Checkpoint
from ..runs.logs import row_of
from ..runs.resume import differences
from ..runs.stored import newest_manifest, rows_changed
from ..runs.tensor_file import with_prefix

FINE, GONE, DAMAGED = "valid", "is missing", "is damaged"


class Row(NamedTuple):
    """state: `FINE`, or what is wrong."""

    name: str
    size: int
    state: str


class Files(NamedTuple):
    """checkpoints: by step. others: lines about the rest; damaged: how many of these are about damage."""

    checkpoints: dict[int, Row]
    others: list[str]
    damaged: int

    @property
    def valid(self) -> list[int]:
        """The steps of the valid checkpoints."""
        return [step for step, row in self.checkpoints.items() if row.state == FINE]


def check_files(folder: Path, trust: Collection[str], progress: Progress) -> Files:
    """Read everything in a run directory.

    Raises:
        CheckpointError: there are no checkpoints.
    """
    places = folder / "checkpoints"
    names = {path.stem for path in places.glob("step_*.*")}
    steps = sorted(int(name[5:]) for name in names if name[5:].isdecimal())
    if not steps:
        raise CheckpointError(f"{shown(folder)}: has no checkpoints; name a run directory")
    rows = {}
    for i, step in enumerate(steps):
        row = _row(places / f"{checkpoint.name_of(step)}.json", trust)
        if row.state == FINE or any(places.glob(f"{row.name}.*")):  # a run that trains here may have removed it
            rows[step] = row
        progress("reading checkpoints", i + 1, len(steps))
    others = list(_others(folder))
    return Files(rows, [line for line, _ in others], sum(bad for _, bad in others))


def _row(manifest_path: Path, trust: Collection[str]) -> Row:
    tensors = manifest_path.with_suffix(".safetensors")
    size = 0
    try:
        size = tensors.stat().st_size if tensors.is_file() else 0
        problem = next(_problems(checkpoint.load(manifest_path), trust), FINE)
    except (DdpmError, OSError) as error:
        problem = str(error).removeprefix(f"{tensors}: ").removeprefix(f"{manifest_path}: ").partition(";")[0]
    return Row(manifest_path.stem, size, problem)


def _problems(found: Checkpoint, trust: Collection[str]) -> Iterator[str]:
    """What is wrong with a checkpoint whose digests match."""
    tensors, config = found.tensors(), found.manifest["config"]
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            yield f"{name} has a value that is NaN or infinite"
    try:
        check_numbers(config, found.manifest.get("about", {}))
        expected = {name: tuple(t.shape) for name, t in network(config, frozenset(trust)).state_dict().items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        yield f"its config describes no network ({error})"
        return
    for prefix in ("model.", "ema."):
        yield from _misfits(prefix, with_prefix(tensors, prefix), expected, optional=prefix == "ema.")


def _misfits(
    prefix: str, tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], optional: bool
) -> Iterator[str]:
    if optional and not tensors:
        return
    for name in sorted(expected.keys() ^ tensors.keys()):
        yield f"{prefix}{name} is {'missing' if name in expected else 'not part of the network'}"
    for name, tensor in tensors.items():
        if expected.get(name, tensor.shape) != tuple(tensor.shape):
            yield f"{prefix}{name} has shape {tuple(tensor.shape)} instead of {expected[name]}"


def _others(folder: Path) -> Iterator[tuple[str, bool]]:
    """(line, whether it is damage) about the files beside the checkpoints."""
    if problem := _config_problem(folder):
        yield f"config.json {problem}", problem in (GONE, DAMAGED)
    rows, cut = _rows(folder / "metrics.jsonl")
    changed = rows_changed(folder)
    damage = (f", and {cut} that cannot be read" if cut else "") + (", but is not as it was saved" if changed else "")
    yield f"metrics.jsonl has {plural(rows, 'row')}{damage}", cut > 0 or changed
    pictures = sorted((folder / "samples").glob("step_*.png"))
    bad = [path.name for path in pictures if not _is_picture(path)]
    if pictures:
        damage = f", and {', '.join(bad)} cannot be read" if bad else ""
        yield f"samples has {plural(len(pictures) - len(bad), 'picture')}{damage}", bool(bad)
    left = [path.name for path in folder.rglob(".*") if path.name.endswith((".part", ".new"))]
    if left:
        yield f"{plural(len(left), 'file')} of a save that was interrupted; the next start removes them", False


def _config_problem(folder: Path) -> str:
    """It differs from that of the checkpoints if a run was resumed with other settings and has not saved since."""
    saved = newest_manifest(folder).get("config")
    try:
        config = read_json(folder / "config.json")
    except FileNotFoundError:
        return GONE
    except (OSError, ValueError):
        return DAMAGED
    if not isinstance(config, dict) or not isinstance(saved, dict):
        return "" if isinstance(config, dict) else DAMAGED
    keys = [key for key, old, new in differences(saved, config) if old != new]
    return f"differs from that of the newest checkpoint in {', '.join(keys[:3])}" if keys else ""


def _rows(path: Path) -> tuple[int, int]:
    """The number of rows, and of lines that are none."""
    try:
        lines = read_regular(path).decode("utf-8", "replace").splitlines()
    except (OSError, ValueError):
        return 0, 0
    good = sum(row_of(line) is not None for line in lines)
    return good, len(lines) - good


def _is_picture(path: Path) -> bool:
    if not path.is_file():  # a pipe would never end
        return False
    try:
        with Image.open(path) as image:
            image.verify()  # the checksums
        with Image.open(path) as image:
            image.load()
    except Exception:  # Pillow can raise almost anything for a damaged file
        return False
    return True
