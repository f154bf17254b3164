"""train.log and metrics.jsonl."""

import hashlib
import json
import logging
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..files import naming, parse_json, read_regular, shown, write_atomically

log = logging.getLogger(__name__)
ROWS = "rows"
"""The entry of manifests about metrics.jsonl."""
LOST = "%s: cannot be written (%s); training goes on without it"


class RunLog(logging.FileHandler):
    """Writes train.log. If it cannot be written, that is logged elsewhere once."""

    _lost = False

    def emit(self, record: logging.LogRecord) -> None:
        if not getattr(record, "of_train_log", False):
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        if not self._lost:
            self._lost = True
            reason = getattr(sys.exc_info()[1], "strerror", None) or "error"
            log.warning(LOST, self.baseFilename, reason, extra={"of_train_log": True})


class Rows:
    """metrics.jsonl of a run. Each manifest has the digest of the rows that were written before it.

    So rows that are changed or lost later are noticed: when the run resumes, by `ddpm verify` and by `ddpm table`.
    """

    def __init__(self, path: Path):
        self.path = path
        self._size, self._digest = 0, hashlib.sha256()

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a row. Raises OSError if it cannot be written."""
        data = f"{json.dumps(row)}\n".encode()
        with naming(self.path), self.path.open("ab", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            try:
                while data:
                    data = data[file.write(data) :]
            except OSError:
                with suppress(OSError):
                    file.truncate(end)  # what a full disk took of it
                raise

    def seal(self) -> dict[str, Any]:
        """The number of bytes so far and their digest, for a manifest. Only what is new since the last call is read."""
        if not self.path.is_file():  # a device could be without end
            return {}
        try:
            with self.path.open("rb") as file:
                file.seek(self._size)
                new = file.read()
        except OSError:
            return {}
        self._size += len(new)
        self._digest.update(new)
        return {"bytes": self._size, "sha256": self._digest.hexdigest()}

    def resume(self, step: int, sealed: Any, done: bool = False) -> None:
        """Drop the rows of later steps, and lines that are no rows, such as an incomplete last one.

        Args:
            sealed: what `seal` returned at `step`; {} if that is not known. If it is, other rows are written again when
                the run goes on.
            done: whether it does not go on; then those of this step stay.
        """
        stored = b""
        with suppress(FileNotFoundError):
            stored = self.path.read_bytes()
        raw = stored.replace(b"\r\n", b"\n")  # Git may have changed the line ends
        intact = sealed_bytes(raw, sealed)
        if intact is None:
            log.warning("%s: is not as it was at step %d; rows are lost or changed", shown(self.path), step)
        kept, least = [raw[: intact or 0]], step + (not done) if intact else 0
        for line in raw[intact or 0 :].splitlines(keepends=True):
            row = row_of(line)
            if row is not None and isinstance(row.get("step"), int) and least <= row["step"] and row["step"] <= step:
                kept.append(line if line.endswith(b"\n") else line + b"\n")
        text = b"".join(kept)
        if text != stored:
            write_atomically(self.path, lambda temporary: temporary.write_bytes(text))


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """The rows of a run; those that are damaged are left out, all of them if the file cannot be read."""
    try:
        lines = read_regular(folder / "metrics.jsonl").splitlines()
    except (OSError, ValueError):
        return []
    return [row for line in lines if (row := row_of(line)) is not None]


def logged(folder: Path) -> list[str]:
    """The names of all that a run has logged; none if it cannot be read."""
    return sorted({name for row in rows_of(folder) for name in row} - {"step", "epoch", "seconds"})


def last_value(folder: Path, name: str, otherwise: float) -> float:
    """The last value of a metric in the rows of a run; `otherwise` if it has none that can be read."""
    values = (row.get(name) for row in reversed(rows_of(folder)))
    found = (value for value in values if isinstance(value, int | float) and not isinstance(value, bool))
    return next((float(value) for value in found), otherwise)


def row_of(line: str | bytes) -> dict[str, Any] | None:
    """The row in a line of metrics.jsonl; None if it is damaged."""
    try:
        row = parse_json(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def sealed_bytes(raw: bytes, sealed: Any) -> int | None:
    """How many of the first bytes are as they were when a manifest was written: all that it has; None = not as many.

    Args:
        raw: the content of metrics.jsonl.
        sealed: the entry of the manifest; those of older versions have none, then it is 0.
    """
    size = sealed.get("bytes") if isinstance(sealed, dict) else None
    if not isinstance(size, int):
        return 0
    same = len(raw) >= size >= 0 and hashlib.sha256(raw[:size]).hexdigest() == sealed.get("sha256")
    return size if same else None
