"""`ddpm verify`: what it checks, as tables and lines."""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import CheckpointError, DdpmError, StorageError
from ..files import shown
from ..progress import Progress, plural
from ..runs import checkpoint
from ..runs.checkpoint import name_of
from ..runs.newest import followed
from .files import FINE, Files, check_files
from .options import VerifyOptions
from .replay import replay
from .selftest import run_in


class Report(NamedTuple):
    """notes: lines below the table. failure: the error that the command ends with; None = everything is right."""

    title: str
    columns: Sequence[str]
    rows: list[list[str]]
    notes: list[str]
    failure: DdpmError | None


def verify(options: VerifyOptions, progress: Progress) -> Report:
    """Check a run or, without one, this machine. Raises DdpmError if that is not possible."""
    return _machine(options, progress) if options.ckpt is None else _run(options, options.ckpt, progress)


def _machine(options: VerifyOptions, progress: Progress) -> Report:
    place = Path(options.run_dir)
    checks = run_in(place, options.kills, progress)
    rows = [[c.what, str(c.trials), c.problem or "as it should be", f"{c.seconds:.1f}"] for c in checks]
    failed = [c for c in checks if c.problem]
    failure = StorageError(f"{shown(place)}: {plural(len(failed), 'check')} failed; train on another disk")
    title = f"runs in {shown(place.resolve())}"
    notes = [] if failed else ["this machine and this disk keep what a run needs of them"]
    return Report(title, ["check", "trials", "result", "s"], rows, notes, failure if failed else None)


def _run(options: VerifyOptions, ckpt: str, progress: Progress) -> Report:
    folder = followed(Path(ckpt))
    folder = folder.parent if folder.name == "checkpoints" else folder
    if not folder.is_dir():
        raise CheckpointError(f"{ckpt}: is not a run directory; name one")
    found = check_files(folder, options.trust, progress)
    rows = [[row.name, f"{row.size / 2**20:,.1f}", row.state] for row in found.checkpoints.values()]
    notes, failure = list(found.others), _failure(folder, found)
    if found.valid:
        notes.append(f"training would resume from step {found.valid[-1]}")
    if options.deep and found.valid:
        line, different = _replayed(options, folder, found.valid, progress)
        notes.append(line)
        if different and failure is None:
            failure = CheckpointError(f"{shown(folder)}: training its last steps again gives other values")
    return Report(f"checkpoints of {shown(folder)}", ["", "MiB", "state"], rows, notes, failure)


def _failure(folder: Path, found: Files) -> CheckpointError | None:
    bad = [row for row in found.checkpoints.values() if row.state != FINE]
    if not bad and not found.damaged:
        return None
    parts = [f"{len(bad)} of {plural(len(found.checkpoints), 'checkpoint')} damaged"] if bad else []
    parts += [f"{plural(found.damaged, 'other file')} damaged"] if found.damaged else []
    advice = "the same ddpm train command goes on without them" if found.valid else "restore a copy"
    advice = advice if bad else "the checkpoints are intact"
    return CheckpointError(f"{shown(folder)}: {', '.join(parts)}; {advice}")


def _replayed(options: VerifyOptions, folder: Path, valid: list[int], progress: Progress) -> tuple[str, bool]:
    """A line about the last steps, trained again, and whether the result differs."""
    if len(valid) < 2:
        return "deep: needs two valid checkpoints, and there is one (see trainer.keep_last)", False
    earlier, later = (checkpoint.load(folder / "checkpoints" / f"{name_of(step)}.json") for step in valid[-2:])
    made = Path(tempfile.mkdtemp(prefix="ddpm-verify-"))
    try:
        different = replay(earlier, later, made / "run", options.root, options.trust, progress)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    if different is None:
        return (
            "deep: it is not known how the run fitted its steps to its budget, so they cannot be trained again",
            False,
        )
    steps = f"steps {earlier.step} to {later.step}, trained again"
    if not different:
        return f"{steps}, give the same values bit for bit", False
    some = ", ".join(different[:3]) + (", ..." if len(different) > 3 else "")
    return (
        f"{steps}, give other values in {plural(len(different), 'tensor')} ({some}); with another number of threads, "
        "device or version of torch that is expected"
    ), True
