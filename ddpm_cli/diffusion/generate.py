"""Generates images from seeds: runs a sampler batch by batch."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from .denoiser import Denoise, Denoiser, SelfConditioning
from .guidance import Guidance, Unguided
from .noise import ImageNoise
from .samplers.base import Frame, Sampler
from .schedule import Schedule


def denoise_of(model: Denoiser, labels: Tensor | None = None, guidance: Guidance | None = None) -> Denoise:
    """The guided model for these labels (B,). Call it for each trajectory, because self-conditioning keeps a state."""
    guided = (guidance or Unguided())(model, labels)
    return SelfConditioning(guided) if model.self_condition else guided


def start(schedule: Schedule, noise: Tensor) -> Tensor:
    """x_1 from standard normal noise, scaled to the standard deviation of x_1 if that is above 1."""
    _, sigma = schedule(torch.ones((), dtype=torch.float64))
    return noise * max(float(sigma), 1.0)


def run_sampler(
    denoise: Denoise, schedule: Schedule, sampler: Sampler, x: Tensor, noise: Callable[[Tensor], Tensor]
) -> Iterator[Frame]:
    """The frames of one batch starting from x (B,C,H,W), computed in inference mode, without gradients."""
    frames = sampler(denoise, schedule, x, noise)
    while True:
        with torch.inference_mode():  # entered per frame, so that the caller's code is not affected
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
    """The frames of one batch. shape (C,H,W); one seed and, optionally, one label per image."""
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
    """The images, one batch at a time, (B,C,H,W) in [-1, 1]; image i depends only on seeds[i] and its label.

    Args:
        labels: (N,) int64 for a class-conditional model.
        on_step: called after each step with the number of images in it.
    """
    for first in range(0, len(seeds), batch_size):
        batch_seeds = seeds[first : first + batch_size]
        frame = None
        batch_labels = None if labels is None else labels[first : first + len(batch_seeds)]
        for frame in trajectory(model, sampler, shape, batch_seeds, batch_labels, guidance):
            if frame.t > 0:
                on_step(len(batch_seeds))
        assert frame is not None
        yield frame.x
