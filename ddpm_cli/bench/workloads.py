"""Workloads of the training benchmark: the loop of `ddpm train`, a bare loop of its operations, matrix products."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..data.images import Batch, Images
from ..hardware.runtime import Runtime
from ..progress import Progress, silent
from ..runs.checkpoint import Checkpoint
from ..runs.directory import RunDirectory, State
from ..runs.loggers import open_loggers
from ..training.fitting import equal_parts
from ..training.loop import train
from ..training.randomness import StepRandom
from ..training.validation import Callbacks
from .setup import TrainingSetup
from .windows import Amount

SIDES = {"cuda": 8192, "cpu": 2048}
"""Size of the square matrices: large enough for peak FLOP/s, small enough for many products per second."""


class MatrixProduct:
    """Computes a large matrix product in the run's precision. The best window defines the peak FLOP/s."""

    def __init__(self, runtime: Runtime):
        side = SIDES.get(runtime.device.type, 4096)
        kind = runtime.autocast or torch.float32
        g = torch.Generator().manual_seed(0)
        a, b = (torch.randn(side, side, generator=g).to(runtime.device, kind) for _ in range(2))
        self.a, self.b, self.out = a, b, torch.empty_like(a)

    def __call__(self) -> Amount:
        torch.mm(self.a, self.b, out=self.out)
        return Amount(2.0 * len(self.a) ** 3)


class SilentReporter:
    """A reporter that shows nothing, so that only the progress of the benchmark is visible."""

    def begin(self, config: Mapping[str, Any], folder: Path) -> None: ...

    def counting(self) -> AbstractContextManager[Progress]:
        return nullcontext(silent)

    def start(self, step: int, total: int) -> None: ...

    def advance(self, step: int, seconds: float) -> None: ...

    def metrics(self, step: int, row: Mapping[str, Any]) -> None: ...

    def pictures(self, step: int, path: Path, pixels: Tensor, across: int | None) -> None: ...

    def stop(self) -> None: ...


class DiscardedRun(RunDirectory):
    """A run that writes log lines into a temporary folder, and no checkpoints."""

    def __enter__(self) -> "DiscardedRun":
        super().__enter__()
        return self

    def log_only(self, config: Mapping[str, Any]) -> None:
        """Open the loggers only; `outputs/latest` is left unchanged."""
        self._loggers = open_loggers(self._choices, self.folder, 0, config)

    def save(self, state: State, keep_last: int, best_by: str | None) -> Checkpoint:
        return Checkpoint(self.folder, {})


class TimedBatches:
    """The batches of `images`; measures the time spent waiting for them."""

    def __init__(self, images: Images):
        self.images, self.waiting = images, 0.0

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, size: int, seed: int, start: int = 0, device: torch.device | str = "cpu") -> Iterator[Batch]:
        batches = self.images.batches(size, seed, start, device)
        while True:
            began = time.perf_counter()
            batch = next(batches)
            self.waiting += time.perf_counter() - began
            yield batch


class TrainingLoop:
    """A workload: the loop of `ddpm train` until the time is up. `run` takes its log lines."""

    def __init__(self, setup: TrainingSetup, run: RunDirectory):
        self.setup, self.run = setup, run
        self.rates = [group["lr"] for group in setup.state.optimizer.param_groups]

    def __call__(self, seconds: float) -> Amount:
        s, batches = self.setup, TimedBatches(self.setup.images)
        for group, rate in zip(s.state.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate  # `train` multiplies the initial rate, so undo what the last window set
        first, s.state.seconds = s.state.step, 0.0
        # the end of a window is not the end of a schedule
        plan = replace(s.plan, max_seconds=max(seconds, 1e-9), budget=None, lr_decay="constant")
        train(s.objective, s.model, s.state, cast(Images, batches), plan, self.run, Callbacks(), s.seed)
        return Amount((s.state.step - first) * s.plan.batch_size, batches.waiting)


class FixedRandom(StepRandom):
    """Random numbers that are drawn once and kept on the device; coins are tossed as in training."""

    def __init__(self, seed: int, step: int, like: Batch, rows: slice, drawn: dict[object, Tensor]):
        super().__init__(seed, step, like.x.device, len(like.x), rows)
        self.drawn = drawn

    def uniform(self, *shape: int) -> Tensor:
        return self._once(shape, torch.rand)

    def normal(self, *shape: int) -> Tensor:
        return self._once(shape, torch.randn)

    def _once(self, shape: tuple[int, ...], draw: Callable[..., Tensor]) -> Tensor:
        self.calls += 1
        key = (self.calls, shape, draw)
        if key not in self.drawn:
            self.drawn[key] = draw(self.total, *shape, device=self.device)
        return self.drawn[key][self.rows]


class Update:
    """The optimizer's step and the average of the weights, the part of a training step that does not depend on images.

    The images of a batch are counted, so that it can be compared with other workloads.
    """

    def __init__(self, setup: TrainingSetup):
        self.setup, self.step = setup, 0
        self.gradients = [(p, torch.full_like(p, 1e-4)) for p in setup.state.parameters]

    def __call__(self) -> Amount:
        for parameter, gradient in self.gradients:
            parameter.grad = gradient
        self.setup.state.optimizer.step()
        self.setup.state.optimizer.zero_grad()
        if self.setup.state.ema:
            self.setup.state.ema.update(self.step)
        self.step += 1
        return Amount(self.setup.plan.batch_size)


class Average:
    """The update of the average of the weights alone."""

    def __init__(self, setup: TrainingSetup):
        self.setup, self.step = setup, 0

    def __call__(self) -> Amount:
        if self.setup.state.ema:
            self.setup.state.ema.update(self.step)
        self.step += 1
        return Amount(self.setup.plan.batch_size)


class BareLoop:
    """Forward, loss, backward, clipping, optimizer and average as in training; without data loading, noise or logs."""

    def __init__(self, setup: TrainingSetup):
        self.setup = setup
        batch = next(setup.batches())
        self.batch = Batch(batch.x.clone(), batch.y.clone())
        self.drawn: dict[object, Tensor] = {}
        self.step = 0

    def __call__(self) -> Amount:
        s, size = self.setup, len(self.batch.x)
        part = s.state.micro_batch(s.plan.micro_batch_size, size)
        for rows in equal_parts(size, part):
            rng = FixedRandom(s.seed, self.step, self.batch, rows, self.drawn)
            loss = s.objective(s.model, Batch(self.batch.x[rows], self.batch.y[rows]), rng)
            (loss.value * ((rows.stop - rows.start) / size)).backward()
        if s.plan.grad_clip is not None:
            nn.utils.clip_grad_norm_([p for p in s.model.parameters() if p.grad is not None], s.plan.grad_clip)
        s.state.optimizer.step()
        s.state.optimizer.zero_grad()
        if s.state.ema:
            s.state.ema.update(self.step)
        self.step += 1
        return Amount(size)
