"""ddpm bench what=sample: the speed of sampling."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..build import check_positive
from ..errors import ConfigError
from ..hardware.runtime import choose_runtime
from ..progress import Progress, plural
from ..runs.assemble import ModelSpec
from ..runs.job import Job
from ..runs.load import untrained
from ..sampling.generator import Generator, load_generator
from ..sampling.request import Request
from ..text import PathText
from .flops import call_flops
from .machine import begin_memory, peak_memory, surroundings
from .measurements import Measurement, Report, overhead
from .options import ComposedOptions
from .sampling_workloads import NetworkCalls, SamplingSteps
from .windows import Amount, Window, repeated
from .workloads import MatrixProduct


@dataclass(frozen=True, kw_only=True)
class Options(ComposedOptions):
    """ckpt: None = the composed network with random weights."""

    ckpt: PathText | None = None
    batch_size: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(batch_size=self.batch_size)


class Benchmark:
    """Draws samples for a number of time windows and discards them.

    Raises:
        ConfigError: incompatible choices, or a model that is not sampled step by step.
        CheckpointError: a checkpoint that is missing, damaged or a classifier.
    """

    def __init__(self, options: Options, job: Job):
        self.options, self.job = options, job
        plan = options.trainer
        if options.ckpt is not None:
            self.run = load_generator(options.ckpt, "ema", plan.device, plan.precision, options.trust)
        else:
            self.run = _untrained(options, job)
        if self.run.network_call is None:
            raise ConfigError(NO_STEPS)
        self.request = Request(n=options.batch_size, seed=options.seed, sampler=options.sampler)
        self.task = self.run.plan(self.request)  # raises ConfigError for more steps than the schedule has

    def __call__(self, progress: Progress) -> Report:
        options, run, runtime = self.options, self.run, self.run.runtime
        stopwatch = options.stopwatch(runtime.synchronize)
        network = NetworkCalls(run, self.request)
        flops = call_flops(network.model, network.x[:1], None if network.y is None else network.y[:1])
        begin_memory(runtime)
        sampling = SamplingSteps(run, self.request)
        first = stopwatch.measure(repeated(sampling), 0.0)
        stopwatch.measure(repeated(sampling), options.warmup)
        memory = peak_memory(runtime)
        workloads: dict[str, Callable[[], Amount]] = {
            "sampling": sampling,
            "network": network,
            "peak": MatrixProduct(runtime),
        }
        windows = stopwatch.rounds({name: repeated(step) for name, step in workloads.items()}, progress)
        rows = measurements(self.task.calls, flops, windows, first, memory)
        protocol = options.timing | {
            "weights": "random" if options.ckpt is None else options.ckpt, "seed": options.seed,
            "batch_size": options.batch_size, "calls_per_image": self.task.calls,
        }  # fmt: skip
        return Report("sample", self._title(), rows, protocol, surroundings(runtime, False), self.job.config)

    def _title(self) -> str:
        options, (c, h, w) = self.options, self.run.shape
        count = sum(p.numel() for p in self.run.run.model.parameters())
        weights = "random weights" if options.ckpt is None else f"weights of {options.ckpt}"
        return (
            f"{type(options.sampler).__name__}, {self.task.calls} network calls per image, {count:,} parameters, "
            f"batches of {options.batch_size} images of {h}x{w}x{c}, {self.run.runtime}, "
            f"{plural(torch.get_num_threads(), 'thread')}, {weights}"
        )


NO_STEPS = "model: is not sampled step by step, so there are no steps to measure; choose a diffusion model"


def _untrained(options: Options, job: Job) -> Generator:
    plan, source = options.trainer, options.dataset
    runtime = choose_runtime(plan.device, plan.precision, "trainer.device", "trainer.precision")
    spec = ModelSpec(options.objective, options.schedule, runtime)
    names = tuple(str(i) for i in range(source.classes or 1))
    run = untrained(job.config, spec, (source.channels, *source.height_width), names)
    if not isinstance(run, Generator):
        raise ConfigError(NO_STEPS)
    return run


def measurements(
    calls: int, flops: float, windows: dict[str, list[Window]], first: Window, memory: int | None
) -> list[Measurement]:
    """The measurements.

    Args:
        flops: FLOP of one network call per image.
        windows: of "sampling" and "network" (network calls times images), and of "peak" (FLOP).
    """
    sampling, network = ([w.rate for w in windows[name]] for name in ("sampling", "network"))
    peak = max(w.rate for w in windows["peak"])
    achieved = [rate * flops for rate in sampling]
    return [
        Measurement("sampling", "sampling", "images/s", [rate / calls for rate in sampling]),
        Measurement("calls", "network calls x batch size", "calls/s", sampling),
        Measurement("network", "network alone", "calls/s", network),
        Measurement("overhead", "overhead of sampling", "share", overhead(network, sampling)),
        Measurement("first_step", "first step", "s", [first.seconds]),
        *([Measurement("memory", "peak memory", "bytes", [memory])] if memory is not None else []),
        Measurement("flops_call", "network call per image", "FLOP", [flops]),
        Measurement("flops", "all network calls per image", "FLOP", [flops * calls]),
        Measurement("achieved", "FLOP/s", "FLOP/s", achieved),
        Measurement("peak", "best matrix product", "FLOP/s", [peak]),
        Measurement("share_of_peak", "share of the best product", "share", [a / peak for a in achieved]),
    ]
