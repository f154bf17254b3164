"""The frames of `ddpm gif`, from a checkpoint to arrays."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..build import build
from ..data.images import Images, to_float
from ..diffusion.editing import there_and_back
from ..diffusion.samplers import Frame, Sampler
from ..errors import ConfigError, DataError
from ..progress import Progress, counter
from ..render.clock import visible
from ..render.denoise import Spacing, denoise_frames, spaced
from ..render.files import write_png
from ..render.forward import forward_frames, forward_strip
from ..render.interpolate import interpolation_frames
from ..render.pixels import quantized, to_uint8
from ..runs.load import Loaded, finite
from .generator import Direct, Prior
from .guidance import Guided
from .inputs import Request
from .latent_tasks import direct_task
from .rows import Asked, Draw, draw_of, ways_of
from .tasks import Task, task_of

BATCH = 64
"""Images at a time, on the way between two ends."""


def animated(
    kind: str,
    request: Request,
    loaded: Loaded,
    sampler: Sampler,
    guide: Guided,
    n: int,
    seed: int,
    asked: Asked,
    frames: int,
    spacing: Spacing,
    scale: int | None,
    progress: Progress,
) -> list[np.ndarray]:
    """The frames of kind=denoise or kind=interpolate."""
    if kind == "denoise":
        draw = draw_of(request, loaded, sampler, guide, n, seed, asked)
        return denoise(task_of(request, draw), draw, frames, spacing, scale, progress)
    way = Way.of(frames)
    task = task_of(request, ways_of(request, loaded, sampler, guide, n, seed, asked, way.distinct))
    return interpolated(task, request, way, n, scale, progress)


class Way(NamedTuple):
    """There and back: the weight of each frame, the `distinct` ones (ascending), and which of them each frame shows."""

    weights: Tensor
    distinct: Tensor
    place: Tensor

    @classmethod
    def of(cls, frames: int) -> "Way":
        weights = there_and_back(frames)
        return cls(weights, *weights.unique(sorted=True, return_inverse=True))


def interpolated(
    task: Task, request: Request, way: Way, n: int, scale: int | None, progress: Progress
) -> list[np.ndarray]:
    """The frames of kind=interpolate. task: n images for each distinct weight in turn."""
    assert request.between is not None
    total = n * len(way.distinct)
    batches = task.images(total, max(n, BATCH // n * n), counter(progress, task.steps, total), shrink=True)
    drawn = torch.cat([to_uint8(finite(images)) for images in batches]).split(n)
    names = [f"seed {end}" if isinstance(end, int) else Path(end).stem for end in request.between]
    return interpolation_frames(
        [drawn[i] for i in way.place.tolist()], way.weights.tolist(), (names[0], names[1]), scale
    )


def directly(
    kind: str,
    request: Request,
    loaded: Direct,
    n: int,
    prior: Prior,
    frames: int,
    scale: int | None,
    progress: Progress,
) -> list[np.ndarray]:
    """The frames of kind=interpolate from an autoencoder: n ways between two seeds, or one between two pictures.

    Raises:
        ConfigError: another kind, which needs steps from noise to image.
    """
    if kind != "interpolate" or loaded.name == "a mixture":
        works = "kind=interpolate between=[3,17]" if loaded.name == "an autoencoder" else "ddpm sample"
        raise ConfigError(f"kind: {kind} is not for a run of {loaded.name}; use {works}")
    n = n if request.kind == "between_seeds" else 1
    way = Way.of(frames)
    seeds = list(range(n)) * len(way.distinct)
    task = direct_task(request, loaded, seeds, prior, weights=way.distinct.repeat_interleave(n))
    return interpolated(task, request, way, n, scale, progress)


def denoise(
    task: Task, draw: Draw, count: int, spacing: Spacing, scale: int | None, progress: Progress
) -> list[np.ndarray]:
    """x_t beside its x0 estimate, at most `count` frames, and what a task was given to the left of both.

    A task that goes back and forth is shown as it passes each time for good.
    """
    n, schedule = len(draw.seeds), draw.loaded.model.schedule
    step = counter(progress, task.steps, n)
    kept: dict[float, Frame] = {}
    last = None
    for last in task.frames(range(n)):
        step(n if last.t > 0 else 0)
        kept.pop(last.t, None)
        # bytes that stay on the device: a copy to the host would have every step wait
        kept[last.t] = Frame(last.t, quantized(visible(last.x, last.t, schedule)), quantized(last.x0))
    assert last is not None
    finite(last.x)
    times = sorted(kept, reverse=True)
    chosen = spaced(torch.tensor(times, dtype=torch.float64), schedule, count, spacing)
    given = torch.cat(list(task.inputs.values())) if task.inputs else None
    return denoise_frames([kept[times[i]] for i in chosen], draw.loaded.clock, scale=scale, given=given)


def forward(
    loaded: Loaded,
    root: str | None,
    n: int,
    seed: int,
    count: int,
    spacing: Spacing,
    scale: int | None,
    strip: Path,
    progress: Progress,
) -> list[np.ndarray]:
    """`n` held-out images dissolving; the strip at 0, 25, 50, 75 and 100 % is written as well."""
    images = real_images(loaded, root, n, seed, progress)
    schedule = loaded.model.schedule
    write_png(strip, forward_strip(images[:8], schedule, seed, scale=scale))
    return forward_frames(images, schedule, count, seed, loaded.clock, scale=scale, spacing=spacing)


def real_images(loaded: Loaded, root: str | None, n: int, seed: int, progress: Progress) -> Tensor:
    """`n` pictures (N,C,H,W) in [-1, 1] of the set that the run was trained on, drawn with `seed`."""
    node = dict(loaded.config["dataset"])
    if root is not None:
        node["root"] = root
    source = build(node, "dataset", trust=loaded.trusted)
    images: Images = source.load("val", progress)
    if len(images) < n:
        images = source.load("train", progress)
    if not len(images):
        raise DataError("dataset: has no pictures; set root=FOLDER")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:n]
    return to_float(images.subset(order).pixels)
