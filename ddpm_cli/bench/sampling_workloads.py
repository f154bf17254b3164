"""Workloads of the sampling benchmark: the steps of `ddpm sample`, and the network alone."""

from collections.abc import Iterator
from typing import Any, cast

import torch

from ..diffusion.denoiser import Denoiser
from ..sampling.generator import Generator
from ..sampling.request import Request
from .windows import Amount


class SamplingSteps:
    """Takes one sampling step per call. The amount is the number of network calls times the batch size.

    Args:
        request: the first batch; later batches have other seeds.
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
        """Takes the steps of one batch after another, without end."""
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
    """Calls the network alone, on the same inputs each time; the amount is as in `SamplingSteps`."""

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
