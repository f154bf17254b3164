"""ddpm bench what=train."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..progress import Progress
from ..runs.job import Job
from .machine import peak_memory, surroundings
from .measurements import Measurement, Report, overhead
from .options import ComposedOptions as Options
from .setup import TrainingSetup, set_up
from .windows import Window, Workload, repeated
from .workloads import BareLoop, DiscardedRun, MatrixProduct, SilentReporter, TrainingLoop

OVERHEAD, WAITING = 0.03, 0.02
"""The most that is aimed at: over a bare loop, and of the time for data."""


class Benchmark:
    """Trains a network with random weights for some windows of time. Nothing is kept but the measurements."""

    def __init__(self, options: Options, job: Job):
        self.options, self.job = options, job

    def __call__(self, progress: Progress) -> Report:
        """Raises ConfigError for parts that do not go together."""
        options, config = self.options, self.job.config
        setup = set_up(options, config, progress)
        stopwatch = options.stopwatch(setup.runtime.synchronize)
        with tempfile.TemporaryDirectory() as place, _discarded(place, options) as run:
            run.log_only(config)
            loop = TrainingLoop(setup, run)
            stopwatch.measure(loop, options.warmup)
            memory = peak_memory(setup.runtime)  # before anything is there that only measures
            works: dict[str, Workload] = {
                "loop": loop,
                "steps": repeated(setup.steps()),
                "bare": repeated(BareLoop(setup)),
                "peak": repeated(MatrixProduct(setup.runtime)),
            }
            windows = stopwatch.rounds(works, progress)
        protocol = options.timing | {"weights": "random", "seed": options.seed}
        machine, title = surroundings(setup.runtime, setup.compiled), f"{setup.title()}, random weights"
        return Report("train", title, measurements(setup, windows, memory), protocol, machine, config)


def _discarded(place: str, options: Options) -> DiscardedRun:
    return DiscardedRun(Path(place), SilentReporter(), options.loggers)


def measurements(
    setup: TrainingSetup, windows: Mapping[str, Sequence[Window]], memory: int | None
) -> list[Measurement]:
    """`windows` of "loop", "steps", "bare" (images) and "peak" (FLOP), the i-th of all side by side."""
    loop, steps, bare = ([w.rate for w in windows[name]] for name in ("loop", "steps", "bare"))
    peak = max(w.rate for w in windows["peak"])
    achieved = [rate * setup.flops.training for rate in loop]
    times = setup.times
    return [
        Measurement("training", "training as ddpm train does", "images/s", loop),
        Measurement("steps", "steps without its log lines", "images/s", steps),
        Measurement("bare", "bare loop of the same work", "images/s", bare),
        Measurement("overhead", "training's overhead", "share", overhead(bare, loop), OVERHEAD),
        Measurement("step_overhead", "the steps' overhead", "share", overhead(bare, steps)),
        Measurement("waiting", "waiting for data", "share", [w.waited for w in windows["loop"]], WAITING),
        Measurement("load", "reading the data", "s", [times.load]),
        Measurement("first_step", "first step", "s", [times.first_step]),
        Measurement("to_first_step", "all up to the first step", "s", [sum(times)]),
        *([Measurement("memory", "peak memory", "bytes", [memory])] if memory is not None else []),
        Measurement("flops_forward", "an image forward", "FLOP", [setup.flops.forward]),
        Measurement("flops", "forward + backward per image", "FLOP", [setup.flops.training]),
        Measurement("achieved", "FLOP/s", "FLOP/s", achieved),
        Measurement("peak", "best matrix product", "FLOP/s", [peak]),
        Measurement("share_of_peak", "fraction of it", "share", [a / peak for a in achieved]),
    ]
