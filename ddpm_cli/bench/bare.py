"""The least that a training step can be: its arithmetic, on numbers that lie ready on the device."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..data.images import Batch
from ..training.randomness import StepRandom
from .subject import Subject
from .windows import Done


class Resident(StepRandom):
    """Random numbers that were drawn once and stay on the device; coins fall as they do in training."""

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


class Bare:
    """Forward, loss, backward, clipping, optimizer and average, as in training; nothing is loaded, drawn or logged."""

    def __init__(self, subject: Subject):
        self.subject = subject
        batch = next(subject.batches())
        self.batch = Batch(batch.x.clone(), batch.y.clone())
        self.drawn: dict[object, Tensor] = {}
        self.step = 0

    def __call__(self) -> Done:
        s, size = self.subject, len(self.batch.x)
        part = s.state.part(s.plan.micro_batch_size, size)
        for first in range(0, size, part):
            rows = slice(first, min(first + part, size))
            rng = Resident(s.seed, self.step, self.batch, rows, self.drawn)
            loss = s.objective(s.model, Batch(self.batch.x[rows], self.batch.y[rows]), rng)
            (loss.value * ((rows.stop - first) / size)).backward()
        if s.plan.grad_clip is not None:
            nn.utils.clip_grad_norm_([p for p in s.model.parameters() if p.grad is not None], s.plan.grad_clip)
        s.state.optimizer.step()
        s.state.optimizer.zero_grad()
        if s.state.ema:
            s.state.ema.update(self.step)
        self.step += 1
        return Done(size)
