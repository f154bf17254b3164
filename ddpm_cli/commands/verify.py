"""ddpm verify."""

from .. import console
from ..console.progress import Counter
from ..runs.job import Job
from ..verification.options import VerifyOptions as Options
from ..verification.verify import verify


def run(options: Options, job: Job) -> None:
    """Check the files of a run, or that runs are safe on this machine. Raises DdpmError if something is damaged."""
    with Counter() as progress:
        report = verify(options, progress)
    console.table(report.title, report.columns, report.rows)
    for note in report.notes:
        console.note(note)
    if report.failure is not None:
        raise report.failure
