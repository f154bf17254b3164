"""ddpm train."""

from .. import console
from ..console.progress import TrainingView
from ..evaluation.monitor import monitor
from ..runs.job import Job
from ..training.options import TrainOptions as Options
from ..training.run import run_session


def run(options: Options, job: Job) -> None:
    """Train a model as the config says, in the job's folder."""
    outcome = run_session(options, job, TrainingView(options.trainer.limit, sorted(job.given)), monitor)
    for note in outcome.notes:
        console.note(note)
