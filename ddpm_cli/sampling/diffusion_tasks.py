"""Tasks of diffusion models: one function for each kind of request."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..data.survey import Values
from ..diffusion.denoiser import Denoise, Denoiser
from ..diffusion.editing import BetweenNoise, RePaint, Shortened, interpolate, vary
from ..diffusion.generate import denoise_of, run_sampler, start, trajectory
from ..diffusion.guidance import Guidance
from ..diffusion.noise import ImageNoise
from ..diffusion.samplers import Frame, Sampler
from ..runs.assemble import network_calls
from ..runs.load import UNKNOWN_VALUES
from .inputs import mask_of, picture_of
from .request import Request
from .task import Task

STRENGTH, BETWEEN, RESAMPLE, JUMP = 0.6, 0.4, 10, 10


@dataclass(frozen=True)
class PerImageSettings:
    """How each of the n images is drawn: its seed; labels (n,) int64, or None; interpolation weights (n,) in [0, 1].

    When interpolating between two seeds, seeds[i] is added to both of them.
    """

    model: Denoiser
    shape: tuple[int, ...]
    sampler: Sampler
    guidance: Guidance
    seeds: Sequence[int]
    labels: Tensor | None
    weights: Tensor | None = None
    values: Values = UNKNOWN_VALUES

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def known_labels(self) -> Tensor | None:
        """The labels; None if images are drawn without a class."""
        return None if self.labels is None or bool((self.labels < 0).any()) else self.labels

    def denoise(self, indices: Sequence[int]) -> Denoise:
        return denoise_of(self.model, self.labels_of(indices), self.guidance)

    def labels_of(self, indices: Sequence[int]) -> Tensor | None:
        return None if self.labels is None else self.labels[list(indices)].to(self.device)

    def seeds_of(self, indices: Sequence[int]) -> list[int]:
        return [self.seeds[i] for i in indices]

    def weights_of(self, indices: Sequence[int]) -> Tensor:
        assert self.weights is not None
        return self.weights[list(indices)].to(self.device, torch.float32)

    def noise(self, indices: Sequence[int]) -> tuple[Tensor, ImageNoise]:
        """The initial noise of each image, and the source of its later noise."""
        noise = ImageNoise(self.seeds_of(indices))
        return noise.first(self.shape, self.device), noise

    def task(self, frames: Any, steps: int, calls: int, inputs: dict[str, Tensor] | None = None, **facts: Any) -> Task:
        return Task(frames, self.seeds, self.known_labels, steps, calls, inputs or {}, {"task": facts})


def task_of(request: Request, settings: PerImageSettings, facts: dict[str, Any]) -> Task:
    """The task of a request. Raises DataError for an unreadable picture, ConfigError for settings unfit for the model.

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
    task = makers[request.task](request, settings)
    return replace(task, facts={"task": {"name": request.task} | task.facts["task"]} | facts)


def _plain(request: Request, settings: PerImageSettings) -> Task:
    model = settings.model

    def frames(indices: Sequence[int]) -> Iterator[Frame]:
        labels = settings.labels_of(indices)
        return trajectory(
            model, settings.sampler, settings.shape, settings.seeds_of(indices), labels, settings.guidance
        )

    return settings.task(
        frames, settings.sampler.length(model.schedule), network_calls(settings.sampler, model.schedule)
    )


def _variation(request: Request, settings: PerImageSettings) -> Task:
    assert request.init is not None
    image = picture_of(request.init, settings.shape, "init", settings.values)
    schedule, strength = settings.model.schedule, request.strength or STRENGTH
    x = image.to(settings.device)

    def frames(indices: Sequence[int]) -> Iterator[Frame]:
        return vary(settings.denoise(indices), schedule, settings.sampler, x, strength, *settings.noise(indices))

    short = Shortened(schedule, strength)
    steps, calls = settings.sampler.length(short), network_calls(settings.sampler, short)
    return settings.task(frames, steps, calls, {"input": image}, init=request.init, strength=strength)


def _inpaint(request: Request, settings: PerImageSettings) -> Task:
    assert request.init is not None and request.mask is not None
    image = picture_of(request.init, settings.shape, "init", settings.values)
    mask = mask_of(request.mask, request.init, settings.shape)
    repaint, schedule = RePaint(request.resample or RESAMPLE, request.jump or JUMP), settings.model.schedule
    x, unknown = image.to(settings.device), mask.to(settings.device)

    def frames(indices: Sequence[int]) -> Iterator[Frame]:
        return repaint(settings.denoise(indices), schedule, settings.sampler, x, unknown, *settings.noise(indices))

    steps = repaint.steps(settings.sampler, schedule)
    calls = sum(network_calls(settings.sampler, step) for step in steps)
    inputs = {"input": image, "masked": torch.where(mask, 0.0, image)}
    facts = {"init": request.init, "mask": request.mask, "resample": repaint.resample, "jump": repaint.jump}
    return settings.task(frames, len(steps), calls, inputs, **facts)


def _between_images(request: Request, settings: PerImageSettings) -> Task:
    assert request.between is not None
    one, other = (picture_of(str(path), settings.shape, "between", settings.values) for path in request.between)
    schedule, strength = settings.model.schedule, request.strength or BETWEEN
    ends = one.to(settings.device), other.to(settings.device)

    def frames(indices: Sequence[int]) -> Iterator[Frame]:
        eps, noise = settings.noise(indices)
        weights = settings.weights_of(indices)
        return interpolate(settings.denoise(indices), schedule, settings.sampler, ends, weights, strength, eps, noise)

    short = Shortened(schedule, strength)
    steps, calls = settings.sampler.length(short), network_calls(settings.sampler, short)
    inputs = {"input": one, "input_other": other}
    return settings.task(frames, steps, calls, inputs, between=request.between, strength=strength)


def _between_seeds(request: Request, settings: PerImageSettings) -> Task:
    assert request.between is not None
    one, other = (int(seed) for seed in request.between)
    schedule = settings.model.schedule

    def frames(indices: Sequence[int]) -> Iterator[Frame]:
        ones, others = ([end + offset for offset in settings.seeds_of(indices)] for end in (one, other))
        noise = BetweenNoise(ones, others, settings.weights_of(indices))
        x = start(schedule, noise.first(settings.shape, settings.device))
        return run_sampler(settings.denoise(indices), schedule, settings.sampler, x, noise)

    calls = network_calls(settings.sampler, schedule)
    return settings.task(frames, settings.sampler.length(schedule), calls, between=request.between)
