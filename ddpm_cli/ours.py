"""Which files in a folder are ours: a marker lists them, and only those are ever replaced, removed or left out.

The markers are sample.json, eval.json and bench.json, and config.json beside the checkpoints of a run. While files are
being written the marker is a hidden file. It is written before the files, so that a program that is killed while it
writes leaves no files of unknown origin. A name that ends in a slash is a folder with everything in it. A single file,
such as a GIF, has a signature in it.
"""

import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import Timeout

from .errors import BusyError, ConfigError
from .files import names_in, read_sealed, remove_parts, shown, write_json
from .locks import Lock

MARKER, LOCK, CLAIM, DRAWN, SAVED, ASKED = ".ddpm.json", ".lock", ".ddpm.new", ".drawn", ".saved", ".job.json"
HIDDEN = {MARKER, LOCK, CLAIM, DRAWN, SAVED, ASKED}
RUN = ("checkpoints/", "samples/", "tensorboard/", "config.json", "data.json", "metrics.jsonl", "train.log")
"""What training writes, besides files that some runs have."""
SAMPLES = ("grid.png", "samples.npz", "sample.json", "input.png", "input_other.png", "masked.png")
EVALUATION = ("eval.json", "tensorboard/", "bound.png", "confusion.png", "mistakes.png", "pairs.png", "samples.png")
BENCHMARK = ("bench.json", "samplers.png")
SIGNATURE = b"made by ddpm-cli"
SIGNS = {MARKER, "sample.json", "eval.json", "bench.json", "config.json"}
"""Files that show that the program wrote into a folder."""


def listed(folder: Path, of: str = "") -> frozenset[str]:
    """The names of our files in `folder`, relative to it.

    Args:
        of: only those that belong to the marker of this name, such as sample.json.
    """
    return frozenset(name for marker, name in _listed(folder) if of in ("", marker))


def _listed(folder: Path) -> Iterator[tuple[str, str]]:
    """(marker, name) of each of our files."""
    hidden, samples, evaluation, benchmark = (
        _json(folder / name) for name in (MARKER, "sample.json", "eval.json", "bench.json")
    )  # of a marker that is damaged nothing is believed
    yield from ((str(hidden.get("of")), name) for name in _texts(hidden.get("files")))
    if "checkpoint_sha256" in samples:
        yield from (("sample.json", name) for name in (*SAMPLES, *_images(folder, samples.get("n"))))
    if isinstance(evaluation.get("protocol"), dict):
        yield from (("eval.json", name) for name in EVALUATION)
    if "protocol" in benchmark and ("figures" in benchmark or "exact" in benchmark):
        yield from (("bench.json", name) for name in BENCHMARK)
    if is_run(folder):
        yield from (("config.json", name) for name in RUN)


def _images(folder: Path, n: Any) -> Iterator[str]:
    """Those of the first n images that are there."""
    names = names_in(folder / "images") if isinstance(n, int) and (folder / "images").is_dir() else []
    yield from (f"images/{name}" for name in names if re.fullmatch(r"\d{6}\.png", name) and int(name[:6]) < n)


def is_run(folder: Path) -> bool:
    """Whether a training of this program has begun in `folder`."""
    path, locked = folder / "config.json", (folder / LOCK).is_file()
    if (path.is_file() or locked) and any((folder / "checkpoints").glob("step_*.json")):
        return True  # also if config.json was lost
    return locked and {"trainer", "dataset"} <= _json(path).keys()


def check(folder: Path, names: Collection[str], key: str) -> None:
    """Raises ConfigError if one of `names` in `folder` exists and is not ours."""
    known = listed(folder)
    for name in sorted(names):
        path = folder / name
        if name not in known and (path.is_dir() or path.is_file() or (path.is_symlink() and not path.exists())):
            kind = "folder" if path.is_dir() else "file"
            raise ConfigError(f"{key}: {shown(path)} is a {kind} that this program did not write; name another folder")


def check_plain(folder: Path, names: Collection[str], key: str) -> None:
    """Raises ConfigError if one of `names`, which will be written into, is a link or no file: a stranger's, perhaps.

    An ordinary file in the place of a folder is left for later: only pictures or logs are lost.
    """
    for name in names:
        path = folder / name
        if path.is_symlink() or (not name.endswith("/") and path.exists() and not path.is_file()):
            raise ConfigError(f"{key}: {name.rstrip('/')} in {shown(folder)} is a link, or no file; remove it")


def check_signed(path: Path, key: str) -> None:
    """Raises ConfigError if there is a file at `path` without our signature."""
    if path.is_dir() or (path.is_file() and not is_signed(path)):
        raise ConfigError(f"{key}: {shown(path)} was not written by this program; name another file")


def is_signed(path: Path, most: int = -1) -> bool:
    """Whether the file, or its first `most` bytes, have our signature. A file that cannot be read has none."""
    try:
        with path.open("rb") as file:
            return SIGNATURE in file.read(most)
    except OSError:
        return False


def check_folder(folder: Path, marker: str, key: str) -> None:
    """Raises ConfigError if `folder` has files, and none that belong to `marker`: the output of such a command."""
    if folder.is_dir() and any(not _hidden(p.name) for p in folder.iterdir()) and not listed(folder, marker):
        raise ConfigError(f"{key}: {shown(folder)} has other files; name an empty or new folder")


def _hidden(name: str) -> bool:
    """Whether it is a hidden file of ours, or one of them as a killed process left it."""
    return name in HIDDEN or bool(re.fullmatch(rf"\.({'|'.join(map(re.escape, HIDDEN))})\.\d+\.part", name))


def claim(folder: Path, names: Collection[str], marker: str, key: str) -> None:
    """Record that `names` in `folder`, which are about to be written, are ours, and remove those of an earlier call.

    Args:
        marker: the file that will list them at the end, such as sample.json.

    Raises:
        ConfigError: as `check`.
        OSError: `folder` cannot be written.
    """
    check(folder, names, key)
    folder.mkdir(parents=True, exist_ok=True)
    remove_parts(folder, MARKER)
    for place in {(folder / name).parent for name in names}:
        remove_parts(place, only={Path(name).name for name in names})
    before = listed(folder, marker)
    write_json(folder / MARKER, {"program": "ddpm-cli", "of": marker, "files": sorted(before | set(names))})
    for name in sorted(before - set(names)):
        if not name.endswith("/") and not (folder / name).is_dir():
            (folder / name).unlink(missing_ok=True)


def complete(folder: Path) -> None:
    """Remove the hidden file, after a marker that is not hidden was written."""
    (folder / MARKER).unlink(missing_ok=True)


def _texts(value: Any) -> Iterator[str]:
    yield from (str(name) for name in value) if isinstance(value, list) else ()


def _json(path: Path) -> dict[str, Any]:
    """The object in a file; an empty one if there is none."""
    try:
        content = read_sealed(path)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


@contextmanager
def reserved(folder: Path, default: bool) -> Iterator[Path]:
    """A folder that no other command writes into: `folder`, or if its name is a default, the next free one like it.

    Args:
        default: whether the name was made by the program, from the time of day.

    Raises:
        BusyError: another command is writing into a folder that the user named.
        OSError: it cannot be written.
    """
    if default:
        folder = _made(folder)
        try:
            yield folder
        finally:
            (folder / CLAIM).unlink(missing_ok=True)
        return
    folder.mkdir(parents=True, exist_ok=True)
    busy = "another command is writing here; wait for it to end"
    of_a_run = (folder / LOCK).exists() and is_run(folder)
    try:
        lock = Lock(folder / LOCK)
    except Timeout as error:
        raise BusyError(f"{folder}: {busy}, or set another out") from error
    try:
        yield folder
    finally:
        if not of_a_run:
            with suppress(OSError):  # Windows removes no open file
                (folder / LOCK).unlink(missing_ok=True)
        lock.release()


def _made(folder: Path) -> Path:
    """`folder`, or with a number after it, made for this command alone."""
    number = 1
    while True:
        candidate = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        candidate.mkdir(parents=True, exist_ok=True)
        try:
            os.close(os.open(candidate / CLAIM, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            number += 1
            continue
        if not any(p.name != CLAIM for p in candidate.iterdir()):
            return candidate
        (candidate / CLAIM).unlink(missing_ok=True)
        number += 1
