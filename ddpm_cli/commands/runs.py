"""ddpm runs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .. import console
from ..console.progress import Counter
from ..errors import ConfigError
from ..evaluation.board import write_board
from ..evaluation.choosing import chosen, counted, table, title
from ..evaluation.listing import Listed, find
from ..runs.job import Job
from ..text import NameText, PathText

MOST = 64
"""Pictures of each run."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """See conf/runs.yaml."""

    of: list[PathText] | PathText
    where: list[NameText] | NameText = field(default_factory=list)
    sort: NameText | None = None
    out: PathText | None = None
    samples: int = 0
    trust: list[NameText] = field(default_factory=list)
    debug: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.samples <= MOST:
            raise ConfigError(f"samples: must be between 0 and {MOST}, got {self.samples}")
        if self.samples and self.out is None:
            raise ConfigError("samples: needs a folder for the pictures; set out=FOLDER")


def run(options: Options, job: Job) -> None:
    """Show a table of runs; write leaderboard.csv, and contact.png, into `out` if it is given."""
    runs = find([options.of] if isinstance(options.of, str) else options.of)
    runs = chosen(runs, [options.where] if isinstance(options.where, str) else options.where, options.sort)
    show(runs)
    if options.out is not None:
        with Counter() as progress:
            notes = write_board(Path(options.out), runs, "out", options.samples, options.trust, progress)
        for note in notes:
            console.note(note)


def show(runs: Sequence[Listed]) -> None:
    """Print the table, and why runs have failed."""
    if runs:
        console.table(title(runs), *table(runs))
    console.note(counted(runs) if runs else "no run fulfils all conditions")
    for failed in runs:
        if failed.reason:
            console.note(f"  {failed.name}: {failed.reason}")
