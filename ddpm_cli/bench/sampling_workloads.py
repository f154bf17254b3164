"""What is timed of sampling: its steps as `ddpm sample` takes them, and the network alone."""

from collections.abc import Iterator
from typing import Any, cast

import torch

from ..diffusion.denoiser import Denoiser
from ..sampling.generator import Generator
from ..sampling.request import Request
from .windows import Amount


class SamplingSteps:
    """A step of sampling; the amount is in network calls times images, counted as they are made.

    Args:
        request: a batch; the batches after it have seeds of their own.
    """

    def __init__(self, run: Generator, request: Request):
        self.run, self.request, self.calls = run, request, 0
        self.steps = self._steps()
        run.run.model.register_forward_hook(self._count)

    def __call__(self) -> Amount:
        before = self.calls
        next(self.steps)
        return Amount((self.calls - before) * self.request.n)

    def _steps(self) -> Iterator[None]:
        """Step after step of one batch after another."""
        first, n = self.request.seed, self.request.n
        while True:
            task = self.run.plan(Request(n=n, seed=first, sampler=self.request.sampler))
            for frame in task.frames(range(n)):
                if frame.t > 0:
                    yield
            first += n

    def _count(self, *_: Any) -> None:
        self.calls += 1


class NetworkCalls:
    """The network alone, on numbers that lie ready; the amount as above."""

    def __init__(self, run: Generator, request: Request):
        self.model, device = cast(Denoiser, run.run.model), run.runtime.device
        g = torch.Generator().manual_seed(request.seed)
        self.x = torch.randn(request.n, *run.shape, generator=g).to(device)
        self.t = torch.full((request.n,), 0.5, device=device)
        self.y = request.classes(run.class_names).to(device) if self.model.class_conditional else None

    @torch.no_grad()
    def __call__(self) -> Amount:
        self.model.output(self.x, self.t, self.y)
        return Amount(len(self.x))
