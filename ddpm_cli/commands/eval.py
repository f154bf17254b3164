"""ddpm eval."""

import time

from .. import console
from ..console.progress import Counter
from ..evaluation.accuracy import class_rows
from ..evaluation.evaluate import Evaluator, Results
from ..evaluation.options import EvalOptions as Options
from ..evaluation.report import EvaluationFolder, bits_rows
from ..evaluation.result import table_rows
from ..files import shown
from ..progress import plural
from ..runs.job import Job
from ..sampling.kept import Kept, stoppable


def run(options: Options, job: Job) -> None:
    """Evaluate a checkpoint, or samples, and write the results into the job's folder."""
    folder, began = EvaluationFolder(job.folder), time.perf_counter()
    kept = Kept(job.folder)
    with stoppable(job.folder, kept.how_far), Counter() as progress:
        evaluator = Evaluator(options, progress, kept)
        console.show_config(evaluator.shown(job), job.given, f"ddpm eval: {shown(job.folder)}")
        results = evaluator()
    seconds = time.perf_counter() - began
    folder.write(results.content(round(seconds, 3)), results.pictures)
    kept.discard()
    if options.tensorboard:
        folder.write_scalars(results.scalars, int(evaluator.subject.facts.get("checkpoint_step", 0)))
    _show(results, options)
    console.note(f"evaluated in {seconds:.1f} s: {folder.contents()} in {shown(job.folder)}")


def _show(results: Results, options: Options) -> None:
    """Print the tables and notes."""
    if results.bits is not None:
        title = f"bits/dim of {plural(results.images, f'{options.split} image')}"
        console.table(title, ["", "bits/dim", "standard error"], bits_rows(results.bits))
    if results.metrics:
        rows = table_rows(results.metrics)
        compared = any(row[-1] for row in rows)
        columns = ["", "value", "spread", *(["real images"] if compared else [])]
        console.table(results.title, columns, [row[: len(columns)] for row in rows])
        if compared:
            console.note(
                "real images: the same metric with real images instead; the fewer there are, the rougher it is"
            )
    if options.metrics == "auto" and results.bits is not None and not results.metrics:
        console.note("sample quality: add features=RUN of a classifier; copied images: metrics=[memorisation]")
    for result in results.metrics.values():
        if result.note:
            console.note(result.note)
    if accuracy := results.metrics.get("accuracy"):
        console.table("classes", ["", "images", "correct", "most often mistaken for"], class_rows(accuracy))
