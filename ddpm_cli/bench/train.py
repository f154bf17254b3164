"""ddpm bench what=train: the speed of training."""

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
from .workloads import BareLoop, DiscardedRun, MatrixProduct, SilentReporter, TrainingLoop, Update

OVERHEAD, WAITING = 0.03, 0.02
"""Goals: the overhead over a bare loop, and the share of time waiting for data."""


class Benchmark:
    """Trains a network with random weights for a number of time windows. Only the measurements are kept."""

    def __init__(self, options: Options, job: Job):
        self.options, self.job = options, job

    def __call__(self, progress: Progress) -> Report:
        """Raises ConfigError for incompatible choices."""
        options, config = self.options, self.job.config
        setup = set_up(options, config, progress)
        stopwatch = options.stopwatch(setup.runtime.synchronize)
        with tempfile.TemporaryDirectory() as folder, _discarded(folder, options) as run:
            run.log_only(config)
            loop = TrainingLoop(setup, run)
            stopwatch.measure(loop, options.warmup)
            memory = peak_memory(setup.runtime)  # before the other workloads allocate memory
            workloads: dict[str, Workload] = {
                "loop": loop,
                "steps": repeated(setup.steps()),
                "bare": repeated(BareLoop(setup)),
                "update": repeated(Update(setup)),
                "peak": repeated(MatrixProduct(setup.runtime)),
            }
            windows = stopwatch.rounds(workloads, progress)
        protocol = options.timing | {"weights": "random", "seed": options.seed}
        machine, title = surroundings(setup.runtime, setup.compiled), f"{setup.title()}, random weights"
        return Report("train", title, measurements(setup, windows, memory), protocol, machine, config)


def _discarded(folder: str, options: Options) -> DiscardedRun:
    return DiscardedRun(Path(folder), SilentReporter(), options.loggers)


def measurements(
    setup: TrainingSetup, windows: Mapping[str, Sequence[Window]], memory: int | None
) -> list[Measurement]:
    """The measurements. windows: of "loop", "steps", "bare", "update" (images) and "peak" (FLOP).

    Those of a round correspond.
    """
    loop, steps, bare, update = ([w.rate for w in windows[name]] for name in ("loop", "steps", "bare", "update"))
    peak = max(w.rate for w in windows["peak"])
    achieved = [rate * setup.flops.training for rate in loop]
    times = setup.times
    return [
        Measurement("training", "training (ddpm train)", "images/s", loop),
        Measurement("steps", "steps without log lines", "images/s", steps),
        Measurement("bare", "bare loop, same operations", "images/s", bare),
        Measurement("overhead", "overhead of training", "share", overhead(bare, loop), OVERHEAD),
        Measurement("step_overhead", "overhead of the steps", "share", overhead(bare, steps)),
        Measurement("update", "optimizer and average, of a step", "share", _ratios(bare, update)),
        Measurement("waiting", "waiting for data", "share", [w.waited for w in windows["loop"]], WAITING),
        Measurement("load", "reading the data", "s", [times.load]),
        Measurement("first_step", "first step", "s", [times.first_step]),
        Measurement("to_first_step", "total time to first step", "s", [sum(times)]),
        *([Measurement("memory", "peak memory", "bytes", [memory])] if memory is not None else []),
        Measurement("flops_forward", "forward per image", "FLOP", [setup.flops.forward]),
        Measurement("flops", "forward + backward per image", "FLOP", [setup.flops.training]),
        Measurement("achieved", "FLOP/s", "FLOP/s", achieved),
        Measurement("peak", "best matrix product", "FLOP/s", [peak]),
        Measurement("share_of_peak", "share of the best product", "share", [a / peak for a in achieved]),
    ]


def _ratios(rates: Sequence[float], others: Sequence[float]) -> list[float]:
    return [rate / other for rate, other in zip(rates, others, strict=True)]
