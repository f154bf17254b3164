"""ddpm sample."""

from .. import console
from ..console.progress import Counter
from ..files import shown
from ..progress import plural
from ..runs.job import Job
from ..sampling.folder import SampleFolder
from ..sampling.generator import load_generator
from ..sampling.kept import Kept, stoppable
from ..sampling.options import SampleOptions as Options
from ..text import named

LISTED = 20
"""Classes that are named."""


def run(options: Options, job: Job) -> None:
    """Draw samples from a checkpoint and write them into the job's folder."""
    folder = SampleFolder(job.folder)  # fails on other files before the checkpoint is read
    run = load_generator(options.ckpt, options.weights, options.device, options.precision, options.trust)
    pipeline = run.pipeline(options, options.batch_size, options.compile, options.dtype)
    console.show_config(run.shown(job), job.given, f"ddpm sample: {shown(job.folder)}")
    kept = Kept(job.folder, folder.add)
    folder.begin(pipeline.task.n, pipeline.task.inputs)
    how = lambda: f"stopped, with {kept.done:,} of {options.n:,} images drawn"  # noqa: E731
    with stoppable(job.folder, how), Counter() as progress:
        samples = pipeline(progress, kept)
    folder.finish(samples.images, samples.classes, samples.columns, samples.facts, samples.inputs, samples.units)
    kept.discard()
    caption = f"{plural(len(samples), 'image')} in {samples.facts['seconds']:.1f} s: {shown(job.folder)}/grid.png"
    if names := [*dict.fromkeys(samples.facts["classes"] or ())][:LISTED]:
        console.note(f"{'classes, in turn' if len(names) > 1 else 'class'}: {named(names, LISTED)}")
    console.show_pictures(samples.images, samples.columns, caption)
