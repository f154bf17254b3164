"""Checkpoints: data only, verified by digest, complete or absent.

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
from .newest import followed

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
        """The tensors whose names start with one of `prefixes` (without prefixes, all), on the CPU.

        They are copies: others would keep the file mapped, and Windows removes no mapped file.
        """
        with safe_open(self.path, "pt") as file:
            names = [n for n in file.keys() if not prefixes or n.startswith(prefixes)]  # noqa: SIM118
            return {n: file.get_tensor(n).clone() for n in names}


def name_of(step: int) -> str:
    return f"step_{step:08d}"


def save(folder: Path, step: int, tensors: Mapping[str, Tensor], manifest: Mapping[str, Any]) -> Checkpoint:
    """Write the tensors, then the manifest that makes them valid.

    Raises:
        OSError: no space or no permission; older checkpoints are untouched.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name_of(step)}.safetensors"
    full_manifest: dict[str, Any] = {"format": FORMAT, "step": step, **manifest}

    def write(temporary: Path) -> None:
        flat = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
        try:
            save_file(flat, temporary)
        except SafetensorError as error:  # it wraps the error of the operating system
            full = "No space left" in str(error)
            reason = "No space left on device" if full else str(error)
            raise OSError(errno.ENOSPC if full else None, reason, str(path)) from error
        temporary.chmod(0o666 & ~_umask())  # save_file makes it readable by its owner only, unlike the manifest
        full_manifest["size"], full_manifest["sha256"] = temporary.stat().st_size, digest(temporary)

    manifest_path = path.with_suffix(".json")
    manifest_path.unlink(missing_ok=True)  # if this step was saved before, its manifest is not valid for new tensors
    write_atomically(path, write)
    write_json(manifest_path, full_manifest)
    return Checkpoint(manifest_path, full_manifest)


def clean(folder: Path) -> None:
    """Remove temporary files left by a process that was killed while writing. No other process may be writing."""
    for leftover in (*folder.glob(".*.part"), *folder.glob(".tmp*")):  # our own, and those of save_file
        leftover.unlink()


def _umask() -> int:
    """The umask of this process, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def prune(folder: Path, newest: int, keep_last: int, keep: int | None = None) -> None:
    """Remove all but step `keep` and the last `keep_last` checkpoints up to step `newest`.

    Manifests are removed last: Windows does not remove a file that another process has open, and such a checkpoint
    stays valid until the next time.

    Steps after `newest` are damaged checkpoints that the run skipped when it resumed. They do not count, so that valid
    ones are kept.
    """
    steps = sorted((step for step in _steps(folder) if step <= newest), reverse=True)
    for step in steps[keep_last:]:
        if step != keep:
            try:
                for suffix in (".safetensors", ".json"):
                    (folder / f"{name_of(step)}{suffix}").unlink(missing_ok=True)
            except PermissionError as error:
                log.warning(
                    "%s: cannot be removed (%s); trying again after the next checkpoint", error.filename, error.strerror
                )


def latest(folder: Path) -> Checkpoint | None:
    """The newest valid checkpoint in `folder`; None if none was ever saved. Damaged ones are skipped with a warning.

    Raises:
        CheckpointError: there are checkpoints, but none is valid.
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
        raise CheckpointError(f"{problems[0].partition(';')[0]}, and no older checkpoint is valid; restore a copy")
    without_manifest = sorted(folder.glob("step_*.safetensors")) if folder.is_dir() else []
    if len(without_manifest) > 1:
        raise CheckpointError(
            f"{folder}: tensors without a manifest; restore the .json files, or delete the .safetensors files"
        )
    for path in without_manifest:  # the first save, interrupted before its manifest: there was no valid checkpoint yet
        log.warning("%s: has no manifest, because saving it was interrupted; training from scratch", path)
    return None


def find(where: str | Path) -> Checkpoint:
    """The checkpoint that `ckpt=` names: a run directory, a checkpoints directory or one file.

    Raises:
        CheckpointError: it does not exist, or has no valid checkpoint.
    """
    path = followed(Path(where))
    if path.suffix in (".safetensors", ".json") and (path.is_file() or not path.exists()):
        return load(path.with_suffix(".json"))
    if not path.exists():
        raise CheckpointError(
            f"{where}: does not exist; name a run directory or a checkpoint file (ddpm train writes them)"
        )
    if path.is_file():
        raise CheckpointError(f"{where}: is not a checkpoint; name a .safetensors file or a run directory")
    found = latest(path / "checkpoints") if (path / "checkpoints").is_dir() else latest(path)
    if found is None and (path / "samples.npz").is_file():
        raise CheckpointError(
            f"{where}: contains samples, not checkpoints; name the run they were drawn from, or use ddpm eval "
            f"samples={where}"
        )
    if found is None:
        named = f"{where} ({path.resolve().name})" if path.is_symlink() or path != Path(where) else where
        raise CheckpointError(f"{named}: has no checkpoints; wait for the first one, or name another run")
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
        raise CheckpointError(
            f"{manifest_path}: has format {fmt}, but this version reads up to {FORMAT}; upgrade ddpm-cli"
        )
    if tensors.stat().st_size != size or digest(tensors) != sha256:
        raise CheckpointError(f"{tensors}: is damaged (wrong size or digest); restore it or use another checkpoint")
    return Checkpoint(manifest_path, manifest)


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _steps(folder: Path) -> set[int]:
    """Steps with a manifest. Tensors without one are from an interrupted save and are ignored."""
    matches = (re.fullmatch(r"step_(\d+)", p.stem) for p in folder.glob("step_*.json"))
    return {int(m[1]) for m in matches if m}


def with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names start with `prefix`, which is removed."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def load_weights(module: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Load `tensors` into `module`. Raises CheckpointError when names or shapes differ."""
    try:
        module.load_state_dict(dict(tensors))
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if len(str(error).splitlines()) > 1 else str(error)
        raise CheckpointError(
            f"{where}: does not fit the network ({first}); use the settings it was trained with"
        ) from error
