"""train.log and metrics.jsonl."""

import logging
import os
import sys
from contextlib import suppress
from pathlib import Path

from ..files import naming, parse_json, write_atomically

log = logging.getLogger(__name__)
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


def append(path: Path, line: str) -> None:
    """Append a line. Raises OSError if it cannot be written: then what a full disk took of it is removed again."""
    data = f"{line}\n".encode()
    with naming(path), path.open("ab", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        try:
            while data:
                data = data[file.write(data) :]
        except OSError:
            with suppress(OSError):
                file.truncate(end)
            raise


def truncate(path: Path, step: int) -> None:
    """Drop the lines of later steps, and invalid ones, such as an incomplete last line."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = parse_json(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int) and row["step"] <= step:
            kept.append(line)
    write_atomically(
        path, lambda temporary: temporary.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    )
