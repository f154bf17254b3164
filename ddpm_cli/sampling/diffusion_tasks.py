"""What draws each kind of request with a diffusion model."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..diffusion.denoiser import Denoise, Denoiser
from ..diffusion.editing import BetweenNoise, RePaint, Shortened, interpolate, vary
from ..diffusion.generate import denoise_of, start, trajectory, walk
from ..diffusion.guidance import Guidance
from ..diffusion.noise import ImageNoise
from ..diffusion.samplers import Frame, Sampler
from ..runs.assemble import network_calls
from .inputs import mask_of, picture_of
from .request import Request
from .task import Task

STRENGTH, BETWEEN, RESAMPLE, JUMP = 0.6, 0.4, 10, 10


@dataclass(frozen=True)
class Rows:
    """How each image is drawn: seeds, one for each of the n images; labels (n,) int64, or None; weights (n,) in [0, 1].

    Between two seeds, seeds[i] is added to both of them.
    """

    model: Denoiser
    shape: tuple[int, ...]
    sampler: Sampler
    guidance: Guidance
    seeds: Sequence[int]
    labels: Tensor | None
    weights: Tensor | None = None

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def known_labels(self) -> Tensor | None:
        """None where the images are drawn without a class."""
        return None if self.labels is None or bool((self.labels < 0).any()) else self.labels

    def denoise(self, rows: Sequence[int]) -> Denoise:
        return denoise_of(self.model, self.some_labels(rows), self.guidance)

    def some_labels(self, rows: Sequence[int]) -> Tensor | None:
        return None if self.labels is None else self.labels[list(rows)].to(self.device)

    def some_seeds(self, rows: Sequence[int]) -> list[int]:
        return [self.seeds[i] for i in rows]

    def some_weights(self, rows: Sequence[int]) -> Tensor:
        assert self.weights is not None
        return self.weights[list(rows)].to(self.device, torch.float32)

    def noise(self, rows: Sequence[int]) -> tuple[Tensor, ImageNoise]:
        """The first noise of each image, and where the rest comes from."""
        noise = ImageNoise(self.some_seeds(rows))
        return noise.first(self.shape, self.device), noise

    def task(self, frames: Any, steps: int, calls: int, inputs: dict[str, Tensor] | None = None, **facts: Any) -> Task:
        return Task(frames, self.seeds, self.known_labels, steps, calls, inputs or {}, {"task": facts})


def task_of(request: Request, rows: Rows, facts: dict[str, Any]) -> Task:
    """Raises DataError for a picture that cannot be read, ConfigError for what makes no sense with the model.

    Args:
        facts: "sampler" and "guidance" of sample.json.
    """
    makers = {
        "plain": _plain,
        "variation": _variation,
        "inpaint": _inpaint,
        "between_images": _between_images,
        "between_seeds": _between_seeds,
    }
    task = makers[request.task](request, rows)
    return replace(task, facts={"task": {"name": request.task} | task.facts["task"]} | facts)


def _plain(request: Request, rows: Rows) -> Task:
    model = rows.model

    def frames(some: Sequence[int]) -> Iterator[Frame]:
        labels = rows.some_labels(some)
        return trajectory(model, rows.sampler, rows.shape, rows.some_seeds(some), labels, rows.guidance)

    return rows.task(frames, rows.sampler.length(model.schedule), network_calls(rows.sampler, model.schedule))


def _variation(request: Request, rows: Rows) -> Task:
    assert request.init is not None
    image = picture_of(request.init, rows.shape, "init")
    schedule, strength = rows.model.schedule, request.strength or STRENGTH
    there = image.to(rows.device)

    def frames(some: Sequence[int]) -> Iterator[Frame]:
        return vary(rows.denoise(some), schedule, rows.sampler, there, strength, *rows.noise(some))

    short = Shortened(schedule, strength)
    steps, calls = rows.sampler.length(short), network_calls(rows.sampler, short)
    return rows.task(frames, steps, calls, {"input": image}, init=request.init, strength=strength)


def _inpaint(request: Request, rows: Rows) -> Task:
    assert request.init is not None and request.mask is not None
    image = picture_of(request.init, rows.shape, "init")
    mask = mask_of(request.mask, request.init, rows.shape)
    repaint, schedule = RePaint(request.resample or RESAMPLE, request.jump or JUMP), rows.model.schedule
    there, where = image.to(rows.device), mask.to(rows.device)

    def frames(some: Sequence[int]) -> Iterator[Frame]:
        return repaint(rows.denoise(some), schedule, rows.sampler, there, where, *rows.noise(some))

    steps = repaint.steps(rows.sampler, schedule)
    calls = sum(network_calls(rows.sampler, step) for step in steps)
    inputs = {"input": image, "masked": torch.where(mask, 0.0, image)}
    facts = {"init": request.init, "mask": request.mask, "resample": repaint.resample, "jump": repaint.jump}
    return rows.task(frames, len(steps), calls, inputs, **facts)


def _between_images(request: Request, rows: Rows) -> Task:
    assert request.between is not None
    one, other = (picture_of(str(path), rows.shape, "between") for path in request.between)
    schedule, strength = rows.model.schedule, request.strength or BETWEEN
    ends = one.to(rows.device), other.to(rows.device)

    def frames(some: Sequence[int]) -> Iterator[Frame]:
        eps, noise = rows.noise(some)
        weights = rows.some_weights(some)
        return interpolate(rows.denoise(some), schedule, rows.sampler, ends, weights, strength, eps, noise)

    short = Shortened(schedule, strength)
    steps, calls = rows.sampler.length(short), network_calls(rows.sampler, short)
    inputs = {"input": one, "input_other": other}
    return rows.task(frames, steps, calls, inputs, between=request.between, strength=strength)


def _between_seeds(request: Request, rows: Rows) -> Task:
    assert request.between is not None
    one, other = (int(seed) for seed in request.between)
    schedule = rows.model.schedule

    def frames(some: Sequence[int]) -> Iterator[Frame]:
        ones, others = ([end + add for add in rows.some_seeds(some)] for end in (one, other))
        noise = BetweenNoise(ones, others, rows.some_weights(some))
        x = start(schedule, noise.first(rows.shape, rows.device))
        return walk(rows.denoise(some), schedule, rows.sampler, x, noise)

    calls = network_calls(rows.sampler, schedule)
    return rows.task(frames, rows.sampler.length(schedule), calls, between=request.between)
