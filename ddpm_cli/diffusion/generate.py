"""From seeds to images: runs a sampler batch by batch."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from .denoiser import Denoise, Denoiser, SelfConditioning
from .guidance import Guidance, Unguided
from .noise import ImageNoise
from .samplers.base import Frame, Sampler
from .schedule import Schedule


def denoise_of(model: Denoiser, labels: Tensor | None = None, guidance: Guidance | None = None) -> Denoise:
    """The model for these labels (B,), guided; a new one for each trajectory, as some of them remember."""
    guided = (guidance or Unguided())(model, labels)
    return SelfConditioning(guided) if model.self_condition else guided


def start(schedule: Schedule, noise: Tensor) -> Tensor:
    """x_1 from standard normal noise: its variance is that of x_1, which matters where it explodes."""
    _, sigma = schedule(torch.ones((), dtype=torch.float64))
    return noise * max(float(sigma), 1.0)


def run_sampler(
    denoise: Denoise, schedule: Schedule, sampler: Sampler, x: Tensor, noise: Callable[[Tensor], Tensor]
) -> Iterator[Frame]:
    """The frames of one batch from x (B,C,H,W) on, in inference mode: they know nothing of gradients."""
    frames = sampler(denoise, schedule, x, noise)
    while True:
        with torch.inference_mode():  # entered for each frame: what the caller does between them is not our business
            frame = next(frames, None)
        if frame is None:
            return
        yield frame


def trajectory(
    model: Denoiser,
    sampler: Sampler,
    shape: Sequence[int],
    seeds: Sequence[int],
    labels: Tensor | None = None,
    guidance: Guidance | None = None,
) -> Iterator[Frame]:
    """The frames of one batch. shape (C,H,W); one seed and, if given, one label for each image."""
    device = next(model.parameters()).device
    noise = ImageNoise(seeds)
    denoise = denoise_of(model, labels.to(device) if labels is not None else None, guidance)
    return run_sampler(denoise, model.schedule, sampler, start(model.schedule, noise.first(shape, device)), noise)


def generate(
    model: Denoiser,
    sampler: Sampler,
    shape: Sequence[int],
    seeds: Sequence[int],
    labels: Tensor | None = None,
    batch_size: int = 64,
    on_step: Callable[[int], None] = lambda images: None,
    guidance: Guidance | None = None,
) -> Iterator[Tensor]:
    """Images of each batch in turn, (B,C,H,W) in [-1, 1]; image i depends on seeds[i] alone.

    Args:
        labels: (N,) int64 for a class-conditional model.
        on_step: called after each step with the number of images in it.
    """
    for first in range(0, len(seeds), batch_size):
        some = seeds[first : first + batch_size]
        frame = None
        few = None if labels is None else labels[first : first + len(some)]
        for frame in trajectory(model, sampler, shape, some, few, guidance):
            if frame.t > 0:
                on_step(len(some))
        assert frame is not None
        yield frame.x
