"""A request -> what draws it: the frames of any rows of it, so that batches do not matter."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..diffusion.editing import BetweenNoise, RePaint, Shortened, interpolate, vary
from ..diffusion.generate import start, trajectory, walk
from ..diffusion.samplers import Frame
from ..runs.assemble import network_calls
from .inputs import Request, mask_of, picture_of
from .rows import Draw

STRENGTH, BETWEEN, RESAMPLE, JUMP = 0.6, 0.4, 10, 10


@dataclass(frozen=True)
class Task:
    """frames(rows) draws the images with these numbers as one batch.

    Args:
        steps: frames before the last one.
        calls: of the network for one batch.
        inputs: what was given, (K,C,H,W) in [-1, 1] by the name of its file.
        facts: what sample.json says of it.
    """

    frames: Callable[[Sequence[int]], Iterator[Frame]]
    steps: int
    calls: int
    inputs: dict[str, Tensor] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def images(self, n: int, batch_size: int, on_step: Callable[[int], None], shrink: bool = False) -> Iterator[Tensor]:
        """Those of each batch in turn, (B,C,H,W); `on_step` is told how many went a step.

        Args:
            shrink: a batch that the device has no memory for is drawn again in halves, and so are those after it.
        """
        first = 0
        while first < n:
            rows = range(first, min(first + batch_size, n))
            drawn = self._batch(rows, on_step, shrink and len(rows) > 1)
            if drawn is None:
                batch_size = (len(rows) + 1) // 2
                continue
            yield drawn
            first = rows.stop

    def _batch(self, rows: range, on_step: Callable[[int], None], shrink: bool) -> Tensor | None:
        """None when it does not fit into memory, of which `shrink` says that something can be done about it."""
        frame, done = None, 0
        try:
            for frame in self.frames(rows):
                if frame.t > 0:
                    on_step(len(rows))
                    done += len(rows)
        except torch.OutOfMemoryError:
            if not shrink:
                raise
            on_step(-done)
            return None
        assert frame is not None
        return frame.x


def task_of(request: Request, draw: Draw) -> Task:
    """Raises DataError for a picture that cannot be read, ConfigError for what makes no sense with the model."""
    makers = {
        "plain": _plain,
        "variation": _variation,
        "inpaint": _inpaint,
        "between_images": _between_images,
        "between_seeds": _between_seeds,
    }
    task = makers[request.kind](request, draw)
    return Task(task.frames, task.steps, task.calls, task.inputs, {"name": request.kind} | task.facts)


def _plain(request: Request, draw: Draw) -> Task:
    model = draw.loaded.model

    def frames(rows: Sequence[int]) -> Iterator[Frame]:
        labels = draw.some_labels(rows)
        return trajectory(model, draw.sampler, draw.loaded.shape, draw.some_seeds(rows), labels, draw.guidance)

    return Task(frames, draw.sampler.length(model.schedule), network_calls(draw.sampler, model.schedule))


def _variation(request: Request, draw: Draw) -> Task:
    assert request.init is not None
    image = picture_of(request.init, draw.loaded.shape, "init")
    schedule, strength = draw.loaded.model.schedule, request.strength or STRENGTH
    there = image.to(draw.loaded.runtime.device)

    def frames(rows: Sequence[int]) -> Iterator[Frame]:
        return vary(draw.denoise(rows), schedule, draw.sampler, there, strength, *draw.noise(rows))

    short = Shortened(schedule, strength)
    facts = {"init": request.init, "strength": strength}
    return Task(frames, draw.sampler.length(short), network_calls(draw.sampler, short), {"input": image}, facts)


def _inpaint(request: Request, draw: Draw) -> Task:
    assert request.init is not None and request.mask is not None
    loaded = draw.loaded
    image = picture_of(request.init, loaded.shape, "init")
    mask = mask_of(request.mask, request.init, loaded.shape)
    repaint, schedule = RePaint(request.resample or RESAMPLE, request.jump or JUMP), loaded.model.schedule
    there, where = image.to(loaded.runtime.device), mask.to(loaded.runtime.device)

    def frames(rows: Sequence[int]) -> Iterator[Frame]:
        return repaint(draw.denoise(rows), schedule, draw.sampler, there, where, *draw.noise(rows))

    steps = repaint.steps(draw.sampler, schedule)
    calls = sum(network_calls(draw.sampler, step) for step in steps)
    facts = {"init": request.init, "mask": request.mask, "resample": repaint.resample, "jump": repaint.jump}
    inputs = {"input": image, "masked": torch.where(mask, 0.0, image)}
    return Task(frames, len(steps), calls, inputs, facts)


def _between_images(request: Request, draw: Draw) -> Task:
    assert request.between is not None
    one, other = (picture_of(str(path), draw.loaded.shape, "between") for path in request.between)
    schedule, strength = draw.loaded.model.schedule, request.strength or BETWEEN
    ends = one.to(draw.loaded.runtime.device), other.to(draw.loaded.runtime.device)

    def frames(rows: Sequence[int]) -> Iterator[Frame]:
        eps, noise = draw.noise(rows)
        weights = draw.some_weights(rows)
        return interpolate(draw.denoise(rows), schedule, draw.sampler, ends, weights, strength, eps, noise)

    short = Shortened(schedule, strength)
    facts = {"between": request.between, "strength": strength}
    inputs = {"input": one, "input_other": other}
    return Task(frames, draw.sampler.length(short), network_calls(draw.sampler, short), inputs, facts)


def _between_seeds(request: Request, draw: Draw) -> Task:
    assert request.between is not None
    one, other = (int(seed) for seed in request.between)
    schedule = draw.loaded.model.schedule

    def frames(rows: Sequence[int]) -> Iterator[Frame]:
        ones, others = ([end + add for add in draw.some_seeds(rows)] for end in (one, other))
        noise = BetweenNoise(ones, others, draw.some_weights(rows))
        x = start(schedule, noise.first(draw.loaded.shape, draw.loaded.runtime.device))
        return walk(draw.denoise(rows), schedule, draw.sampler, x, noise)

    calls = network_calls(draw.sampler, schedule)
    return Task(frames, draw.sampler.length(schedule), calls, facts={"between": request.between})
