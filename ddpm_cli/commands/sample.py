"""ddpm sample."""

from .. import console
from ..console.progress import Counter
from ..errors import Stopped
from ..files import override, shown
from ..progress import plural
from ..runs.job import Job
from ..sampling.folder import SampleFolder
from ..sampling.generator import load_generator
from ..sampling.kept import Kept
from ..sampling.options import SampleOptions as Options
from ..signals import interruptible


def run(options: Options, job: Job) -> None:
    """Draw samples from a checkpoint and write them into the job's folder."""
    folder = SampleFolder(job.folder)  # fails on other files before the checkpoint is read
    run = load_generator(options.ckpt, options.weights, options.device, options.precision, options.trust)
    pipeline = run.pipeline(options, options.batch_size, options.compile, options.dtype)
    console.show_config(run.shown(job), f"ddpm sample: {shown(job.folder)}")
    kept = Kept(job.folder, folder.add)
    folder.begin(pipeline.task.n, pipeline.task.inputs)
    try:
        with interruptible(), Counter() as progress:
            samples = pipeline(progress, kept)
    except KeyboardInterrupt as error:
        number, how = getattr(error, "number", None), f"stopped, with {kept.done:,} of {options.n:,} images drawn"
        raise Stopped(number, f"{shown(job.folder)}: {how}", override("out", shown(job.folder))) from None
    folder.write(samples.images, samples.classes, samples.columns, samples.facts, samples.inputs, samples.units)
    kept.discard()
    caption = f"{plural(len(samples), 'image')} in {samples.facts['seconds']:.1f} s: {shown(job.folder)}/grid.png"
    console.show_pictures(samples.images, samples.columns, caption)
