"""ddpm bench what=data: the speed of loading batches."""

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
    """Loads one batch per call and discards it."""

    def __init__(self, batches: Iterator[Batch]):
        self.batches = batches

    def __call__(self) -> Amount:
        return Amount(len(next(self.batches).x))


class Benchmark:
    """Measures loading batches alone, and in training, where each step waits for its batch."""

    def __init__(self, options: Options, job: Job):
        self.options, self.job = options, job

    def __call__(self, progress: Progress) -> Report:
        """Raises ConfigError for incompatible choices."""
        options, config = self.options, self.job.config
        setup = set_up(options, config, progress, synthetic=False)
        workloads = {"alone": repeated(BatchReading(setup.batches())), "training": repeated(setup.steps())}
        windows = options.stopwatch(setup.runtime.synchronize).rounds(workloads, progress)
        memory, training = peak_memory(setup.runtime), windows["training"]
        measurements = [
            Measurement("alone", "loading batches alone", "images/s", [w.rate for w in windows["alone"]]),
            Measurement("training", "training", "images/s", [w.rate for w in training]),
            Measurement("waiting", "waiting for data", "share", [w.waited for w in training], WAITING),
            Measurement("load", f"reading {len(setup.images):,} images", "s", [setup.times.load]),
            *([Measurement("memory", "peak memory", "bytes", [memory])] if memory is not None else []),
        ]
        protocol = options.timing | {"weights": "random", "seed": options.seed}
        machine = surroundings(setup.runtime, setup.compiled)
        return Report("data", f"{setup.title()}, random weights", measurements, protocol, machine, config)
