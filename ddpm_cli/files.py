"""Writes files that are complete or absent, and formats paths for messages."""

import errno
import hashlib
import json
import os
import re
import shlex
import stat
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .text import quoted

MOST_BYTES = 2**30
"""Of a file that is read as a whole."""
BLANK = "0" * 64
"""What a digest of the text that it stands in is taken of in its place."""
PROBED = 2**14
"""Bytes that `probe` writes."""
PATIENCE = 2.0
"""Seconds for which `replace` tries again."""
PASSING = (errno.EBUSY, errno.ESTALE, errno.EIO, errno.EAGAIN)
"""Errors with which a network file system may refuse a rename once."""
NO_SYNC = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EACCES)
"""What file systems that cannot sync folders say."""


def names_in(folder: Path) -> list[str]:
    """The names in a folder, none if there is no such folder. Raises OSError if it cannot be read."""
    try:
        return [path.name for path in folder.iterdir()]
    except FileNotFoundError:
        if folder.is_symlink():
            raise OSError(errno.ENOENT, "is a link to a place that is not there", str(folder)) from None
        return []


def write_atomically(path: Path, write: Callable[[Path], Any], shown_as: Path | None = None) -> None:
    """Write `path` atomically: `write` fills a temporary file in its folder, which is synced to disk and then renamed.

    Args:
        shown_as: what errors name, if `path` is a name for a while only.

    Raises:
        OSError: the file cannot be written; nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with naming(shown_as or path, temporary):
            write(temporary)
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def probe(path: Path) -> None:
    """Write and remove a small file in the place of `path`, so that a full or read-only disk shows before long work.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with naming(path, temporary):
            temporary.write_bytes(bytes(PROBED))
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def naming(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Errors of the system inside name `path`: that of a full disk names no file, and nobody knows a temporary one."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename in (None, str(temporary)):
            error.filename = str(path)
        raise


def number_of(error: Exception) -> int | None:
    """The number of the error of the system, also of one that safetensors or torch have made another one of."""
    if isinstance(error, OSError):
        return error.errno
    match = re.search(r"\(os error (\d+)\)|code: (\d+)|\((\d+)\)$", str(error).partition("\n")[0])
    return int(next(filter(None, match.groups()))) if match else None


def remove_parts(folder: Path, names: str = "*", only: Collection[str] | None = None) -> None:
    """Remove the temporary files of `write_atomically` that a killed process left for files of these names.

    No other process may be writing them.

    Args:
        names: a pattern.
        only: if given, the names themselves.
    """
    for leftover in folder.glob(f".{names}.*.part"):
        match = re.fullmatch(r"\.(.+)\.\d+\.part", leftover.name)
        if match and leftover.is_file() and (only is None or match[1] in only):
            with suppress(OSError):  # it is in nobody's way
                leftover.unlink(missing_ok=True)


def replace(temporary: Path, path: Path) -> None:
    """Rename `temporary` to `path`, which it replaces. An error that may pass is tried again for `PATIENCE` seconds.

    On Windows a rename fails while another program has one of the files open, and virus scanners and indexers open
    every new file for a moment. A network file system may have trouble for a moment.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            temporary.replace(path)
            return
        except OSError as error:
            passing = isinstance(error, PermissionError) if os.name == "nt" else error.errno in PASSING
            if not passing or time.monotonic() >= deadline:
                raise
            time.sleep(0.05)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON. Raises OSError as `write_atomically` does."""
    write_atomically(path, lambda p: p.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8"))


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """Write indented JSON with a digest of its own text, see `read_sealed`. Raises OSError as `write_atomically`."""
    text = json.dumps({"digest": BLANK, **content}, indent=2) + "\n"
    sealed = text.replace(BLANK, hashlib.sha256(text.encode()).hexdigest(), 1)
    write_atomically(path, lambda temporary: temporary.write_text(sealed, encoding="utf-8", newline="\n"))


def read_sealed(path: Path) -> Any:
    """The value in a file of `write_sealed`, or in one of an earlier version, which has no digest.

    Raises:
        OSError: it is missing or cannot be read.
        ValueError: it is damaged.
    """
    raw = read_regular(path).replace(b"\r\n", b"\n")  # Git may have changed the line ends
    content = parse_json(raw)
    if isinstance(content, dict) and "digest" in content:
        stored = content["digest"]
        if not isinstance(stored, str) or not stored or digest_within(raw, stored) != stored:
            raise ValueError("its digest does not fit")
    return content


def digest_within(raw: bytes, stored: str) -> str:
    """The digest that a text should have at the place where it has `stored`."""
    return hashlib.sha256(raw.replace(stored.encode(), BLANK.encode(), 1)).hexdigest()


def read_regular(path: Path, most: int = MOST_BYTES) -> bytes:
    """The content of a file that somebody else may have made.

    Raises:
        OSError: it is missing or cannot be read.
        ValueError: it is a pipe or a device, which could be without end, or has more bytes than `most`.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode) or status.st_size > most:
        raise ValueError(f"{path} is no file, or a very large one")
    with naming(path):
        return path.read_bytes()


def read_json(path: Path) -> Any:
    """The value in a JSON file. Raises OSError and ValueError as `read_regular` and `parse_json` do."""
    return parse_json(read_regular(path).decode("utf-8"))


def parse_json(text: str | bytes) -> Any:
    """The value that JSON describes. Raises ValueError if it is damaged, or nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error


def sync_folder(folder: Path) -> None:
    """Sync a folder, so that a rename in it survives a power cut. Only on POSIX: other systems cannot open folders.

    File systems that cannot sync a folder (some of the network, some of FUSE) are left alone.

    Raises:
        OSError: the disk has failed.
    """
    if os.name != "posix":
        return
    with naming(folder):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in NO_SYNC:
                raise
        finally:
            os.close(handle)


def shown(path: Path) -> str:
    """The path as a user would type it: relative if it is inside the working directory."""
    inside = path.resolve().is_relative_to(Path.cwd())
    return str(path.resolve().relative_to(Path.cwd())) if inside else str(path)


def override(key: str, path: Path | str, windows: bool = os.name == "nt") -> str:
    """`key=path` as it is typed on the command line, quoted where the shell or Hydra would read it otherwise.

    Args:
        windows: for PowerShell, which loses double quotes inside of single ones, and not for a POSIX shell.
    """
    text = str(path)
    if re.fullmatch(r"[A-Za-z0-9_./+=-]+", text) and not _is_value(text):
        return f"{key}={text}"
    if windows:
        return _for_powershell(key, text)
    return shlex.quote(f"{key}={quoted(text)}")


def _for_powershell(key: str, text: str) -> str:
    # Hydra reads two backslashes at the start as one
    if re.fullmatch(r"(?!\\\\)[A-Za-z0-9_./\\:+=-]+", text) and not _is_value(text):
        return f"{key}={text}"
    escaped = re.sub(r"(\\*)'", r"\1\1\'", text) + "\\" * (len(text) - len(text.rstrip("\\")))
    return '"' + re.sub(r"([`$])", r"`\1", f"{key}='{escaped}'") + '"'


def _is_value(text: str) -> bool:
    """Whether Hydra reads it as a number, true, false or null."""
    try:
        float(text)
    except ValueError:
        return text.lower() in ("true", "false", "null")
    return True
