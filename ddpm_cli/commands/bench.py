"""ddpm bench."""

from importlib import import_module
from typing import Any, Literal

from .. import console
from ..build import options_of
from ..console.progress import Counter
from ..early import check_early
from ..files import shown
from ..ours import check_folder
from ..runs.job import Job


class Options:
    """`what` picks a module of ddpm_cli.bench; the other keys are the `Options` of that module."""

    def __init__(self, what: Literal["samplers", "train", "sample", "data", "startup"], **keys: Any):
        self.what, self.keys = what, keys


def run(options: Options, job: Job) -> None:
    """Run a benchmark, show its table, and write bench.json into the job's folder."""
    check_folder(job.folder, "bench.json", "out")
    name = f"ddpm_cli.bench.{options.what}"
    check_early(f"{name}.Options", options.keys)
    module = import_module(name)
    benchmark = module.Benchmark(options_of(module.Options, options.keys), job)
    place = shown(job.folder)
    console.show_choices(job.config, sorted(job.given), f"ddpm bench: {place}", f"{place}/bench.json")
    with Counter() as progress:
        report = benchmark(progress)
    console.table(report.title, report.columns, report.rows)
    console.note(report.write(job.folder))
