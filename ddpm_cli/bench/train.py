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
from .workloads import Average, BareLoop, DiscardedRun, MatrixProduct, SilentReporter, TrainingLoop, Update

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
                "average": repeated(Average(setup)),
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
    """The measurements. windows: of "loop", "steps", "bare", "update", "average" (images) and "peak" (FLOP).

    Those of a round correspond.
    """
    loop, steps, bare = ([w.rate for w in windows[name]] for name in ("loop", "steps", "bare"))
    peak = max(w.rate for w in windows["peak"])
    achieved = [rate * setup.flops.training for rate in loop]
    times = setup.times
    return [
        Measurement("training", "training (ddpm train)", "images/s", loop),
        Measurement("steps", "steps without log lines", "images/s", steps),
        Measurement("bare", "bare loop, same operations", "images/s", bare),
        Measurement("overhead", "overhead of training", "share", overhead(bare, loop), OVERHEAD),
        Measurement("step_overhead", "overhead of the steps", "share", overhead(bare, steps)),
        *_parts(windows),
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


def _parts(windows: Mapping[str, Sequence[Window]]) -> list[Measurement]:
    """The parts of a training step, which add up to 1. The network is what the measured parts leave."""
    loop, steps, update, average = ([w.rate for w in windows[name]] for name in ("loop", "steps", "update", "average"))
    averages = _ratios(loop, average)
    optimizer = [both - one for both, one in zip(_ratios(loop, update), averages, strict=True)]
    data = [window.waited for window in windows["loop"]]
    logs = [1 - ratio for ratio in _ratios(loop, steps)]
    network = [1 - sum(parts) for parts in zip(optimizer, averages, data, logs, strict=True)]
    return [
        Measurement("network", "of a step: network and loss", "share", network),
        Measurement("optimizer", "of a step: optimizer", "share", optimizer),
        Measurement("average", "of a step: average of the weights", "share", averages),
        Measurement("waiting", "of a step: waiting for data", "share", data, WAITING),
        Measurement("logs", "of a step: log lines", "share", logs),
    ]


def _ratios(rates: Sequence[float], others: Sequence[float]) -> list[float]:
    return [rate / other for rate, other in zip(rates, others, strict=True)]
