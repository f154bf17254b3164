"""Checkpoints: data only, verified by digest, complete or absent.

step_00001000.safetensors holds the tensors, under `model.`, `ema.` and `optimizer.`; step_00001000.json is the
manifest, with the digest of the tensors and of itself. A checkpoint is valid when both match. Nothing is pickled.

New tensors are first written under a hidden name. One rename of the manifest then makes them valid, and takes their
place from tensors of the same step that were saved before; last they get their own name. So whenever the process ends,
each manifest has its tensors, under one name or the other.
"""

import errno
import hashlib
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import CheckpointError, NewerFormatError
from ..files import names_in, naming, number_of, replace, sync_folder, write_atomically
from . import manifest as manifests
from . import tensor_file
from .manifest import FORMAT
from .newest import followed

NOT_DAMAGED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, *((errno.EACCES, errno.EPERM) if os.name == "posix" else ()))
"""Errors of a process that reads a file, which say nothing about the file."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """One valid checkpoint on disk."""

    manifest_path: Path
    manifest: Mapping[str, Any]
    source: Path | None = None
    """The file with its tensors, where it does not have its own name yet."""

    @property
    def path(self) -> Path:
        return self.manifest_path.with_suffix(".safetensors")

    @property
    def step(self) -> int:
        return int(self.manifest["step"])

    def tensors(self, *prefixes: str) -> dict[str, Tensor]:
        """The tensors whose names start with one of `prefixes` (without prefixes, all), on the CPU.

        They are copies: others would keep the file mapped, and Windows removes no mapped file.

        Raises:
            CheckpointError: the file does not have the format of tensors, or was removed meanwhile.
        """
        with self._opened() as file:
            names = [n for n in file.keys() if not prefixes or n.startswith(prefixes)]  # noqa: SIM118
            return {n: file.get_tensor(n).clone() for n in names}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor, from the head of the file. Raises CheckpointError as `tensors`."""
        with self._opened() as file:
            return {n: tuple(file.get_slice(n).get_shape()) for n in file.keys()}  # noqa: SIM118

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        try:
            with self._open() as file:
                yield file
        except (SafetensorError, OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
            if (number := number_of(error)) is not None and number in NOT_DAMAGED:
                raise OSError(number, os.strerror(number), str(self.path)) from error
            reason = str(error).partition("\n")[0]
            raise CheckpointError(
                f"{self.path}: its tensors cannot be read ({reason}); restore it or use another checkpoint"
            ) from error

    def _open(self) -> Any:
        """The tensors' file, under its own name if it gets that one while it is opened."""
        if self.source not in (None, self.path):
            try:
                return safe_open(self.source, "pt")
            except Exception:
                if self.source.is_file():
                    raise
        return safe_open(self.path, "pt")


def name_of(step: int) -> str:
    return f"step_{step:08d}"


def save(folder: Path, step: int, tensors: Mapping[str, Tensor], manifest: Mapping[str, Any]) -> Checkpoint:
    """Write the tensors, then the manifest that makes them valid.

    Raises:
        NonFiniteError: a weight is NaN or infinite.
        OSError: no space or no permission; older checkpoints are untouched.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name_of(step)}.safetensors"
    first, content = first_name(path), {"step": step, **manifest}

    def write(temporary: Path) -> None:
        tensor_file.write(temporary, path, tensors, step)
        content["size"], content["sha256"] = temporary.stat().st_size, digest(temporary)

    manifest_path = path.with_suffix(".json")
    if first.exists():
        settle(first, path)
    try:
        write_atomically(first, write, path)
        sealed = manifests.write(manifest_path, content)
    except BaseException:
        with suppress(OSError):  # where the manifest cannot be read, the next start decides
            if content_of(manifest_path).get("sha256") != content.get("sha256"):  # it was not renamed before the error
                first.unlink(missing_ok=True)
        raise
    give_name(first, path)
    return Checkpoint(manifest_path, sealed, first)


def content_of(manifest_path: Path) -> dict[str, Any]:
    """The content of a manifest, empty if it is missing or damaged. Raises OSError if it cannot be read."""
    try:
        return manifests.read(manifest_path)
    except (FileNotFoundError, ValueError):
        return {}


def first_name(path: Path) -> Path:
    """The name of new tensors until their manifest is valid."""
    return path.with_name(f".{path.name}.new")


def give_name(first: Path, path: Path) -> None:
    """Give new tensors their own name. Where that is not possible now, they stay valid under their first name."""
    try:
        replace(first, path)
        sync_folder(path.parent)
    except OSError as error:  # Windows does not replace a file that another program has open
        log.warning("%s: cannot be replaced (%s); its tensors are in %s", path, error.strerror, first.name)


def settle(first: Path, path: Path) -> None:
    """Give tensors that were left under their first name their own, if their manifest is valid; else remove them.

    Raises:
        OSError: that is not possible now.
    """
    content = content_of(path.with_suffix(".json"))
    if matches(first, content) and not matches(path, content):
        replace(first, path)
        sync_folder(path.parent)
    first.unlink(missing_ok=True)


def tensors_of(manifest_path: Path, content: Mapping[str, Any]) -> Path | None:
    """The file beside a manifest that has its tensors; None if it is missing or damaged.

    Raises:
        OSError: this process may not open it, or has too many open files.
    """
    path = manifest_path.with_suffix(".safetensors")
    for _ in range(2):  # twice, because the process that saves may rename it meanwhile
        for candidate in (path, first_name(path)):
            try:
                if matches(candidate, content):
                    return candidate
            except OSError as error:  # a disk that cannot read it has damaged it
                if error.errno in NOT_DAMAGED:
                    raise
    return None


def matches(path: Path, content: Mapping[str, Any]) -> bool:
    """Whether a file has the size and the digest of a manifest. Raises OSError if it cannot be read."""
    try:
        same = path.is_file() and path.stat().st_size == content.get("size")
        return same and digest(path) == content.get("sha256")
    except FileNotFoundError:
        return False


def latest(folder: Path) -> Checkpoint | None:
    """The newest valid checkpoint in `folder`; None if none was ever saved. Damaged ones are skipped with a warning.

    Raises:
        CheckpointError: there are checkpoints, but none is valid.
    """
    while True:
        steps = steps_in(folder)
        try:
            return _newest_of(steps, folder)
        except CheckpointError:
            if steps_in(folder) == steps:
                raise  # otherwise a run saves here, and has changed what was there meanwhile


def _newest_of(steps: Iterable[int], folder: Path) -> Checkpoint | None:
    problems = []
    for step in sorted(steps, reverse=True):
        try:
            found = load(folder / f"{name_of(step)}.json")
        except CheckpointError as error:
            if isinstance(error, NewerFormatError):
                raise
            problems.append(str(error))
            continue
        lost = (f"{folder / name_of(s)}.json: is missing" for s in sorted(without_manifest(folder)) if s > step)
        for problem in (*problems, *lost):
            log.warning("%s; using step %d instead", problem.partition(";")[0], step)
        return found
    if problems:
        raise CheckpointError(f"{problems[0].partition(';')[0]}, and no older checkpoint is valid; restore a copy")
    if without_manifest(folder):
        raise CheckpointError(
            f"{folder}: tensors without a manifest; restore the .json files, or delete the .safetensors files to train "
            "from scratch"
        )
    return None


def find(where: str | Path) -> Checkpoint:
    """The checkpoint that `ckpt=` names: a run directory, a checkpoints directory or one file.

    Raises:
        CheckpointError: it does not exist, or has no valid checkpoint.
    """
    if not str(where):
        raise CheckpointError("run: its path is empty; name a run directory or a checkpoint file")
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
    try:
        manifest = manifests.read(manifest_path)
        if manifest["format"] <= FORMAT and name_of(manifest["step"]) != manifest_path.stem:
            raise ValueError("step")
    except FileNotFoundError as error:
        raise CheckpointError(f"{manifest_path}: is missing; restore it or use another checkpoint") from error
    except ValueError as error:
        raise CheckpointError(f"{manifest_path}: is damaged; restore it or use another checkpoint") from error
    if manifest["format"] > FORMAT:
        raise NewerFormatError(
            f"{manifest_path}: has format {manifest['format']}, but this version reads up to {FORMAT}; upgrade ddpm-cli"
        )
    source = tensors_of(manifest_path, manifest)
    if source is None:
        tensors = manifest_path.with_suffix(".safetensors")
        problem = "is damaged (wrong size or digest)" if tensors.is_file() else "is missing"
        raise CheckpointError(f"{tensors}: {problem}; restore it or use another checkpoint")
    return Checkpoint(manifest_path, manifest, source)


def digest(path: Path) -> str:
    with naming(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def steps_in(folder: Path) -> set[int]:
    """Steps with a manifest. Raises OSError if the folder cannot be read."""
    matches = (re.fullmatch(r"step_(\d+)\.json", name) for name in names_in(folder))
    return {int(m[1]) for m in matches if m}


def without_manifest(folder: Path) -> set[int]:
    """Steps whose tensors have their own name, and so had a manifest, but have none now."""
    matches = [re.fullmatch(r"step_(\d+)", p.stem) for p in folder.glob("step_*.safetensors")]
    return {int(m[1]) for m in matches if m} - steps_in(folder)  # read last: a run may be saving a new one
