"""Which checkpoints of a run stay, and what a killed process leaves."""

import logging
import re
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from ..files import remove_parts
from .checkpoint import first_name, name_of, settle, steps_in

log = logging.getLogger(__name__)


def clean(folder: Path) -> None:
    """Complete or remove what a killed process left while writing. No other process may be writing."""
    for first in folder.glob(".step_*.safetensors.new"):
        with suppress(OSError):  # it stays where it is, for the next start
            settle(first, first.with_name(first.name[1:].removesuffix(".new")))
    remove_parts(folder, "*step_*")
    for leftover in folder.glob(".tmp*"):
        if re.fullmatch(r"\.tmp\w{5,8}", leftover.name) and leftover.is_file():  # of save_file
            with suppress(OSError):
                leftover.unlink()


def prune(
    folder: Path, newest: int, keep_last: int, keep: int | None = None, skipped: Collection[int] = frozenset()
) -> None:
    """Remove all but step `keep` and the last `keep_last` checkpoints up to step `newest`.

    Manifests are removed last: Windows does not remove a file that another process has open, and such a checkpoint
    stays valid until the next time.

    Args:
        skipped: damaged checkpoints that the run passed over when it resumed. They do not count, so that as many valid
            ones are kept, and go when they are older than these. Neither do steps after `newest`.
    """
    steps = sorted((step for step in steps_in(folder) if step <= newest), reverse=True)
    kept = [step for step in steps if step not in skipped][:keep_last]
    oldest = min(kept, default=newest)
    for step in steps:
        if step not in kept and step != keep and (step < oldest or step not in skipped):
            try:
                path = folder / f"{name_of(step)}.safetensors"
                for file in (path, first_name(path), path.with_suffix(".json")):
                    file.unlink(missing_ok=True)
            except OSError as error:
                log.warning(
                    "%s: cannot be removed (%s); trying again after the next checkpoint", error.filename, error.strerror
                )
