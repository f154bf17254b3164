"""Sets up training like `ddpm train`, takes the first step, and measures how long that takes."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import nn

from ..data.images import Batch, Images
from ..errors import ConfigError
from ..hardware.formats import described
from ..hardware.runtime import Runtime, choose_runtime
from ..objectives.base import Objective
from ..progress import Progress, plural
from ..runs.assemble import ModelSpec, completed, network
from ..training.loop import update
from ..training.plan import Plan
from ..training.session import session_class
from ..training.setup import prepare
from ..training.state import TrainState
from .flops import Flops, training_flops
from .machine import begin_memory
from .options import ComposedOptions
from .windows import Amount

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


def set_up(options: ComposedOptions, config: Mapping[str, Any], progress: Progress) -> TrainingSetup:
    """Build a run as `options` say and take its first step.

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
    images: Images = options.dataset.load("train", progress)
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
