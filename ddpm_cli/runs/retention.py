"""Which checkpoints of a run stay, and what a killed process leaves."""

import logging
import re
from contextlib import suppress
from pathlib import Path

from ..files import remove_parts
from .checkpoint import content_of, first_name, give_name, matches, name_of, steps_in

log = logging.getLogger(__name__)


def clean(folder: Path) -> None:
    """Complete or remove what a killed process left while writing. No other process may be writing."""
    for first in folder.glob(".step_*.safetensors.new"):
        with suppress(OSError):  # it stays where it is, for the next start
            path = first.with_name(first.name[1:].removesuffix(".new"))
            content = content_of(path.with_suffix(".json"))
            if matches(first, content) and not matches(path, content):
                give_name(first, path)
            else:
                first.unlink()
    remove_parts(folder, "*step_*")
    for leftover in folder.glob(".tmp*"):
        if re.fullmatch(r"\.tmp\w{5,8}", leftover.name) and leftover.is_file():  # of save_file
            with suppress(OSError):
                leftover.unlink()


def prune(folder: Path, newest: int, keep_last: int, keep: int | None = None) -> None:
    """Remove all but step `keep` and the last `keep_last` checkpoints up to step `newest`.

    Manifests are removed last: Windows does not remove a file that another process has open, and such a checkpoint
    stays valid until the next time.

    Steps after `newest` are damaged checkpoints that the run skipped when it resumed. They do not count, so that valid
    ones are kept.
    """
    steps = sorted((step for step in steps_in(folder) if step <= newest), reverse=True)
    for step in steps[keep_last:]:
        if step != keep:
            try:
                path = folder / f"{name_of(step)}.safetensors"
                for file in (path, first_name(path), path.with_suffix(".json")):
                    file.unlink(missing_ok=True)
            except OSError as error:
                log.warning(
                    "%s: cannot be removed (%s); trying again after the next checkpoint", error.filename, error.strerror
                )
