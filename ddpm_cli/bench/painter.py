"""A network that draws, and drawing for a window of time."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..build import build
from ..diffusion.denoiser import Denoiser
from ..diffusion.generate import trajectory
from ..diffusion.samplers import Sampler
from ..errors import ConfigError
from ..hardware.runtime import Runtime, choose
from ..runs.assemble import check, labels_of, network, network_calls, wrapper_of
from ..runs.load import Loaded
from ..training.plan import Plan
from .windows import Done


@dataclass(frozen=True)
class Painter:
    """A model, and what it draws. `labels` (B,) or None."""

    model: Denoiser
    runtime: Runtime
    sampler: Sampler
    shape: tuple[int, ...]
    labels: Tensor | None
    batch_size: int
    seed: int

    @property
    def calls(self) -> int:
        """Network calls for an image."""
        return network_calls(self.sampler, self.model.schedule)

    def steps(self) -> Iterator[None]:
        """Step after step of one drawing after another, as `ddpm sample` draws."""
        first = self.seed
        while True:
            for frame in trajectory(
                self.model, self.sampler, self.shape, range(first, first + self.batch_size), self.labels
            ):
                if frame.t > 0:
                    yield
            first += self.batch_size


class Painting:
    """A step of a drawing; the amount is in network calls times images, counted as they are made."""

    def __init__(self, painter: Painter):
        self.size, self.steps, self.calls = painter.batch_size, painter.steps(), 0
        painter.model.register_forward_hook(self._count)

    def __call__(self) -> Done:
        before = self.calls
        next(self.steps)
        return Done((self.calls - before) * self.size)

    def _count(self, *_: Any) -> None:
        self.calls += 1


class Calling:
    """The network alone, on numbers that lie ready; the amount as above."""

    def __init__(self, painter: Painter):
        self.model, device = painter.model, painter.runtime.device
        g = torch.Generator().manual_seed(painter.seed)
        self.x = torch.randn(painter.batch_size, *painter.shape, generator=g).to(device)
        self.t = torch.full((painter.batch_size,), 0.5, device=device)
        self.y = None if painter.labels is None else painter.labels.to(device)

    @torch.no_grad()
    def __call__(self) -> Done:
        self.model.output(self.x, self.t, self.y)
        return Done(len(self.x))


def painter_of(config: dict[str, Any], ckpt: str | None, batch_size: int, seed: int, trust: Collection[str]) -> Painter:
    """From a run's checkpoint, or the composed network as its seed makes it.

    Raises:
        ConfigError: parts that do not go together, a model that does not draw step by step.
        CheckpointError: a checkpoint that is missing, damaged or a classifier.
    """
    plan, sampler = build(config["trainer"], "trainer"), build(config["sampler"], "sampler")
    if ckpt is not None:
        loaded = Loaded(ckpt, "ema", plan.device, plan.precision, list(trust))
        model, runtime, shape = loaded.model, loaded.runtime, loaded.shape
        labels = loaded.labels(batch_size, None, None)
    else:
        model, runtime, shape, labels = _random(config, plan, batch_size)
    check(model, sampler)
    painter = Painter(model, runtime, sampler, shape, labels, batch_size, seed)
    assert painter.calls  # more steps than the schedule has are said here
    return painter


def _random(
    config: dict[str, Any], plan: Plan, batch_size: int
) -> tuple[Denoiser, Runtime, tuple[int, ...], Tensor | None]:
    source = build(config["dataset"], "dataset")
    runtime = choose(plan.device, plan.precision, "trainer.device", "trainer.precision")
    wrap = wrapper_of(config, runtime, build(config["objective"], "objective"))
    module = runtime.freeze(runtime.prepare(network(config)))
    model = wrap(module)
    if not isinstance(model, Denoiser):
        raise ConfigError("model: draws no images step by step, which is what is measured; choose a diffusion model")
    labels = labels_of(module, source.classes or 1, batch_size)
    return model, runtime, (source.channels, *source.height_width), labels
