"""ddpm bench what=data."""

from collections.abc import Iterator

from ..data.images import Batch
from ..progress import Progress
from ..runs.job import Job
from .machine import peak_memory, surroundings
from .measurements import Measurement, Report
from .options import ComposedOptions as Options
from .setup import set_up
from .train import WAITING
from .windows import Amount, repeated


class BatchReading:
    """Batch after batch, and nothing done with them."""

    def __init__(self, batches: Iterator[Batch]):
        self.batches = batches

    def __call__(self) -> Amount:
        return Amount(len(next(self.batches).x))


class Benchmark:
    """Reads batches alone, and in training, where the step waits for them."""

    def __init__(self, options: Options, job: Job):
        self.options, self.job = options, job

    def __call__(self, progress: Progress) -> Report:
        """Raises ConfigError for parts that do not go together."""
        options, config = self.options, self.job.config
        setup = set_up(options, config, progress)
        works = {"alone": repeated(BatchReading(setup.batches())), "training": repeated(setup.steps())}
        windows = options.stopwatch(setup.runtime.synchronize).rounds(works, progress)
        memory, training = peak_memory(setup.runtime), windows["training"]
        found = [
            Measurement("alone", "batches alone", "images/s", [w.rate for w in windows["alone"]]),
            Measurement("training", "the same in training", "images/s", [w.rate for w in training]),
            Measurement("waiting", "fraction of a step that waits", "share", [w.waited for w in training], WAITING),
            Measurement("load", f"reading {len(setup.images):,} images", "s", [setup.times.load]),
            *([Measurement("memory", "peak memory", "bytes", [memory])] if memory is not None else []),
        ]
        protocol = options.timing | {"weights": "random", "seed": options.seed}
        machine = surroundings(setup.runtime, setup.compiled)
        return Report("data", f"{setup.title()}, random weights", found, protocol, machine, config)
