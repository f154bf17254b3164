"""Sets up training like `ddpm train`, takes the first step, and measures how long that takes."""

import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import nn

from ..data.images import Batch, Images
from ..data.source import Source
from ..errors import ConfigError, DataError
from ..hardware.formats import described
from ..hardware.runtime import Runtime, choose_runtime
from ..objectives.base import Objective
from ..progress import Progress, plural
from ..runs.assemble import ModelSpec, completed, network
from ..training.loop import update
from ..training.plan import Plan
from ..training.run import session_class
from ..training.setup import prepare
from ..training.state import TrainState
from .flops import Flops, training_flops
from .machine import begin_memory
from .options import ComposedOptions
from .windows import Amount

log = logging.getLogger(__name__)
RANDOM = 2048
"""Random images, if the dataset is not on this machine."""
ENDLESS = 2**62
"""Steps of the measured plan, never reached: a window ends by time."""


class SetupTimes(NamedTuple):
    """Seconds to read the training images, to build network and optimizer, and for the first step (with compiling)."""

    load: float
    build: float
    first_step: float


@dataclass
class TrainingSetup:
    """The objects of a run in training. `model` is the module that the objective calls; `state` holds its weights."""

    plan: Plan
    runtime: Runtime
    objective: Objective
    model: nn.Module
    state: TrainState
    images: Images
    seed: int
    flops: Flops
    times: SetupTimes

    def batches(self) -> Iterator[Batch]:
        return self.images.batches(self.plan.batch_size, self.seed, self.state.step, self.runtime.device)

    def steps(self) -> "OptimizerSteps":
        return OptimizerSteps(self)

    @property
    def compiled(self) -> bool:
        return bool(self.state.chosen["compile"] != "eager")

    def title(self) -> str:
        """The title of the table, one line."""
        c, h, w = self.images.shape
        count = sum(p.numel() for p in self.state.module.parameters())
        text = f"{count:,} parameters, batches of {self.plan.batch_size} images of {h}x{w}x{c}, {self.runtime}"
        compiled = ", compiled" if self.compiled else ""
        threads = plural(torch.get_num_threads(), "thread")
        return f"{text}, {threads}{compiled}; {described(self.runtime.device)}"


class OptimizerSteps:
    """Takes one optimizer step of `ddpm train` per call."""

    def __init__(self, setup: TrainingSetup):
        self.setup = setup
        self.batches = setup.batches()

    def __call__(self) -> Amount:
        s = self.setup
        began = time.perf_counter()
        batch = next(self.batches)
        waiting = time.perf_counter() - began
        update(s.objective, s.model, s.state, batch, s.plan, s.seed)
        return Amount(len(batch.x), waiting)


def images_of(source: Source, progress: Progress) -> Images:
    """The training images, or random ones of the same shape if they are not on this machine: as fast to train on."""
    local: Any = source
    if hasattr(source, "download"):
        local = replace(local, download=False)
    try:
        images: Images = local.load("train", progress)
        return images
    except DataError as error:
        log.warning("%s", str(error).partition(";")[0])
        shape = (source.channels, *source.height_width)
        log.warning("measuring with random images of %dx%dx%d instead", *shape[1:], shape[0])
        generator = torch.Generator().manual_seed(0)
        pixels = torch.randint(0, 256, (RANDOM, *shape), generator=generator, dtype=torch.uint8)
        names = tuple(str(i) for i in range(source.classes or 0))
        labels = torch.arange(RANDOM) % max(len(names), 1)
        return Images(pixels, labels, names, source.flip)


def set_up(
    options: ComposedOptions, config: Mapping[str, Any], progress: Progress, synthetic: bool = True
) -> TrainingSetup:
    """Build a run as `options` say and take its first step.

    Args:
        synthetic: use random images if the dataset is not on this machine.

    Raises:
        DdpmError: as `ddpm train`; also for a model without gradient steps.
    """
    requested, plan = options.trainer, endless(options.trainer)
    runtime = choose_runtime(plan.device, plan.precision, "trainer.device", "trainer.precision")
    spec = ModelSpec(options.objective, options.schedule, runtime)
    # incompatible choices are reported before data are read
    if not session_class(spec.wrap(network(config))).gradient_steps:
        raise ConfigError("objective: EM takes no gradient steps, so there is nothing to measure; choose another model")
    began = time.perf_counter()
    images = images_of(options.dataset, progress) if synthetic else options.dataset.load("train", progress)
    loaded = time.perf_counter()
    module = network(completed(config, images))
    batch = next(images.batches(plan.batch_size, options.seed, 0, "cpu"))
    counting = time.perf_counter()
    flops = training_flops(options.objective, spec.wrap(module), batch)
    counted = time.perf_counter()
    begin_memory(runtime)
    # with the requested plan: compile=auto depends on how long the run would train
    state = prepare(module, options.optimizer, requested, spec, None, images)
    model = spec.wrap(state.module).train()
    times = SetupTimes(0.0, 0.0, 0.0)
    setup = TrainingSetup(plan, runtime, options.objective, model, state, images, options.seed, flops, times)
    built = time.perf_counter()
    setup.steps()()
    runtime.synchronize()
    first = time.perf_counter() - built
    setup.times = SetupTimes(loaded - began, (built - counted) + (counting - loaded), first)
    return setup


def endless(plan: Plan) -> Plan:
    """`plan` without an end, learning rate decay, validation, samples and checkpoints; only log lines remain."""
    return replace(
        plan,
        steps=ENDLESS,
        epochs=None,
        max_seconds=None,
        lr_decay="constant",
        lr_milestones=(),
        save_every=0,
        save_seconds=None,
        sample_every=0,
        eval_every=0,
        features=None,
        best_by=None,
    )
