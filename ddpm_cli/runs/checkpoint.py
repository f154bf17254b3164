"""Checkpoints that can be trusted: data only, checked by digest, complete or absent.

step_00001000.safetensors holds the tensors, under `model.`, `ema.` and `optimizer.`; step_00001000.json, written after
it, is the manifest. A checkpoint is valid when its manifest exists and matches. Nothing is pickled.
"""

import errno
import hashlib
import json
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..errors import CheckpointError
from ..files import write_atomically, write_json

FORMAT = 1
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """One valid checkpoint on disk."""

    manifest_path: Path
    manifest: Mapping[str, Any]

    @property
    def path(self) -> Path:
        return self.manifest_path.with_suffix(".safetensors")

    @property
    def step(self) -> int:
        return int(self.manifest["step"])

    def tensors(self, *prefixes: str) -> dict[str, Tensor]:
        """On the CPU, those whose name begins with one of `prefixes` (all without any)."""
        with safe_open(self.path, "pt") as file:
            names = [n for n in file.keys() if not prefixes or n.startswith(prefixes)]  # noqa: SIM118
            return {n: file.get_tensor(n) for n in names}


def name_of(step: int) -> str:
    return f"step_{step:08d}"


def save(folder: Path, step: int, tensors: Mapping[str, Tensor], manifest: Mapping[str, Any]) -> Checkpoint:
    """Write the tensors, then the manifest that makes them count.

    Raises:
        OSError: no space or no permission; older checkpoints are untouched.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name_of(step)}.safetensors"
    whole: dict[str, Any] = {"format": FORMAT, "step": step, **manifest}

    def write(temporary: Path) -> None:
        flat = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
        try:
            save_file(flat, temporary)
        except SafetensorError as error:  # it hides the system's own error
            full = "No space left" in str(error)
            why = "No space left on device" if full else str(error)
            raise OSError(errno.ENOSPC if full else None, why, str(path)) from error
        temporary.chmod(0o666 & ~_umask())  # it is made for its owner alone, where its manifest is for all
        whole["size"], whole["sha256"] = temporary.stat().st_size, digest(temporary)

    manifest_path = path.with_suffix(".json")
    manifest_path.unlink(missing_ok=True)  # a step saved again: the old manifest must not vouch for new tensors
    write_atomically(path, write)
    write_json(manifest_path, whole)
    return Checkpoint(manifest_path, whole)


def clean(folder: Path) -> None:
    """Remove what a process left that was killed while it wrote; nobody else may be writing."""
    for leftover in (*folder.glob(".*.part"), *folder.glob(".tmp*")):  # ours, and what save_file begins with
        leftover.unlink()


def _umask() -> int:
    """It can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def prune(folder: Path, newest: int, keep_last: int, keep: int | None = None) -> None:
    """Remove all but the last `keep_last` checkpoints up to step `newest` and step `keep`; the manifest goes first.

    Later steps are damaged ones that the run went back behind: they are no reason to remove a good one.
    """
    steps = sorted((step for step in _steps(folder) if step <= newest), reverse=True)
    for step in steps[keep_last:]:
        if step != keep:
            for suffix in (".json", ".safetensors"):
                (folder / f"{name_of(step)}{suffix}").unlink(missing_ok=True)


def latest(folder: Path) -> Checkpoint | None:
    """The newest valid checkpoint in `folder`; None when there was never one. Damaged ones are skipped with a warning.

    Raises:
        CheckpointError: there are checkpoints and none is valid.
    """
    problems = []
    for step in sorted(_steps(folder), reverse=True):
        try:
            found = load(folder / f"{name_of(step)}.json")
        except CheckpointError as error:
            problems.append(str(error))
            continue
        for problem in problems:
            log.warning("%s; using step %d instead", problem.partition(";")[0], step)
        return found
    if problems:
        raise CheckpointError(f"{problems[0].partition(';')[0]}, and no older one is valid; restore a copy")
    alone = sorted(folder.glob("step_*.safetensors")) if folder.is_dir() else []
    if len(alone) > 1:
        raise CheckpointError(f"{folder}: tensors without a manifest; restore the .json, or delete them")
    for path in alone:  # the very first save, cut short before its manifest: nothing ever counted
        log.warning("%s: has no manifest, its save was cut short; beginning afresh", path)
    return None


def find(where: str | Path) -> Checkpoint:
    """`ckpt=`: a run directory, a checkpoints directory or one file.

    Raises:
        CheckpointError: nothing there, or nothing valid.
    """
    path = Path(where)
    if path.suffix in (".safetensors", ".json") and (path.is_file() or not path.exists()):
        return load(path.with_suffix(".json"))
    if not path.exists():
        raise CheckpointError(
            f"{where}: does not exist; name a run directory or a checkpoint file (ddpm train makes one)"
        )
    if path.is_file():
        raise CheckpointError(f"{where}: is not a checkpoint; name a .safetensors file or a run directory")
    found = latest(path / "checkpoints") if (path / "checkpoints").is_dir() else latest(path)
    if found is None and (path / "samples.npz").is_file():
        raise CheckpointError(
            f"{where}: holds samples; name the run they were drawn from, or give ddpm eval samples={where}"
        )
    if found is None:
        named = f"{where} ({path.resolve().name})" if path.is_symlink() else where
        raise CheckpointError(f"{named}: has no checkpoints; wait for the first save, or name another run")
    return found


def load(manifest_path: Path) -> Checkpoint:
    """Read and verify one checkpoint.

    Raises:
        CheckpointError: missing, truncated, changed or of a newer format.
    """
    tensors = manifest_path.with_suffix(".safetensors")
    if not tensors.is_file():
        raise CheckpointError(f"{tensors}: is missing; restore it or use another checkpoint")
    try:
        manifest = json.loads(manifest_path.read_text(encoding="utf-8"))
        size, sha256, fmt = manifest["size"], manifest["sha256"], int(manifest["format"])
        float(manifest["seconds"]), manifest["config"].items()
        if name_of(int(manifest["step"])) != manifest_path.stem:
            raise ValueError("step")
    except FileNotFoundError as error:
        raise CheckpointError(f"{manifest_path}: is missing; restore it or use another checkpoint") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{manifest_path}: is damaged; restore it or use another checkpoint") from error
    if fmt > FORMAT:
        raise CheckpointError(f"{manifest_path}: has format {fmt}, this ddpm reads up to {FORMAT}; upgrade ddpm-cli")
    if tensors.stat().st_size != size or digest(tensors) != sha256:
        raise CheckpointError(f"{tensors}: is damaged (size or digest differs); restore it or use another checkpoint")
    return Checkpoint(manifest_path, manifest)


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _steps(folder: Path) -> set[int]:
    """Steps with a manifest. Tensors alone are a save that was cut short: they never count."""
    matches = (re.fullmatch(r"step_(\d+)", p.stem) for p in folder.glob("step_*.json"))
    return {int(m[1]) for m in matches if m}


def with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those under `prefix`, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def load_weights(module: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Raises CheckpointError when names or shapes differ."""
    try:
        module.load_state_dict(dict(tensors))
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if len(str(error).splitlines()) > 1 else str(error)
        raise CheckpointError(
            f"{where}: does not fit the network ({first}); was it trained with other settings?"
        ) from error
