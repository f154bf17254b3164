"""What `ddpm train` would train, ready for its first step, and what it took to get there."""

import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import nn

from .. import console
from ..build import build
from ..data.images import Batch, Images
from ..errors import ConfigError
from ..hardware.runtime import Runtime, choose
from ..objectives.base import Objective
from ..objectives.em import EM
from ..runs.assemble import check_seed, network, wrapper_of
from ..training.loop import update
from ..training.plan import Plan
from ..training.setup import prepare
from ..training.state import TrainState
from .flops import Flops, training_flops
from .hardware import begin_memory
from .windows import Done

ENDLESS = 2**62
"""Steps of the measured plan: a window ends by time."""


class Took(NamedTuple):
    """Seconds: to read the training pictures, to build network and optimizer, for the first step (which compiles)."""

    load: float
    build: float
    first_step: float


@dataclass
class Subject:
    """A run between two steps. `model` is what the objective calls; `state` holds its weights."""

    plan: Plan
    runtime: Runtime
    objective: Objective
    model: nn.Module
    state: TrainState
    images: Images
    seed: int
    flops: Flops
    took: Took

    def batches(self) -> Iterator[Batch]:
        return self.images.batches(self.plan.batch_size, self.seed, self.state.step, self.runtime.device)

    def stepping(self) -> "Stepping":
        return Stepping(self)

    @property
    def compiled(self) -> bool:
        return bool(self.state.chosen["compile"] != "eager")

    def title(self) -> str:
        """One line for the table."""
        c, h, w = self.images.shape
        count = sum(p.numel() for p in self.state.module.parameters())
        words = f"{count:,} parameters, batches of {self.plan.batch_size} images of {h}x{w}x{c}, {self.runtime}"
        return f"{words}, {torch.get_num_threads()} threads{', compiled' if self.compiled else ''}"


class Stepping:
    """Batch after batch through the optimizer step of `ddpm train`."""

    def __init__(self, subject: Subject):
        self.subject = subject
        self.batches = subject.batches()

    def __call__(self) -> Done:
        s = self.subject
        began = time.perf_counter()
        batch = next(self.batches)
        waiting = time.perf_counter() - began
        update(s.objective, s.model, s.state, batch, s.plan, s.seed)
        return Done(len(batch.x), waiting)


def subject_of(config: dict[str, Any], seed: int, trust: Collection[str]) -> Subject:
    """Build what `config` describes and take the first step. Raises what `ddpm train` raises."""
    check_seed(seed)
    asked, source = build(config["trainer"], "trainer"), build(config["dataset"], "dataset")
    plan = endless(asked)
    runtime = choose(plan.device, plan.precision, "trainer.device", "trainer.precision")
    objective, optimizer = build(config["objective"], "objective"), build(config["optimizer"], "optimizer")
    if isinstance(objective, EM):
        raise ConfigError("objective: EM takes no gradient steps, which are what is measured; choose another model")
    wrap = wrapper_of(config, runtime, objective)
    wrap(network(config))  # what does not go together is said before data are read
    began = time.perf_counter()
    with console.Counter() as progress:
        images: Images = source.load("train", progress)
    loaded = time.perf_counter()
    module = network(config, images)
    some = next(images.batches(plan.batch_size, seed, 0, "cpu"))
    counting = time.perf_counter()
    flops = training_flops(objective, wrap(module), some)
    counted = time.perf_counter()
    begin_memory(runtime)
    # as it was asked: whether to compile hangs on how long it would train
    state = prepare(module, optimizer, asked, runtime, None, objective, wrap, images)
    model = wrap(state.module).train()
    subject = Subject(plan, runtime, objective, model, state, images, seed, flops, Took(0.0, 0.0, 0.0))
    built = time.perf_counter()
    subject.stepping()()
    runtime.synchronize()
    first = time.perf_counter() - built
    subject.took = Took(loaded - began, (built - counted) + (counting - loaded), first)
    return subject


def endless(plan: Plan) -> Plan:
    """Without an end, a change of the learning rate, or anything to look at or save on the way: log lines are left."""
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
