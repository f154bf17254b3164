"""From seeds to images: runs a sampler batch by batch."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from .denoiser import Denoiser
from .noise import ImageNoise
from .samplers.base import Frame, Sampler


def trajectory(
    model: Denoiser, sampler: Sampler, shape: Sequence[int], seeds: Sequence[int], labels: Tensor | None = None
) -> Iterator[Frame]:
    """The frames of one batch. shape (C,H,W); one seed and, if given, one label for each image."""
    device = next(model.parameters()).device
    noise = ImageNoise(seeds)
    y = labels.to(device) if labels is not None else None
    denoise = partial(model, y=y)
    frames = sampler(denoise, model.schedule, noise.first(shape, device), noise)
    while True:
        with torch.no_grad():  # entered for each frame: what the caller does between them is not our business
            frame = next(frames, None)
        if frame is None:
            return
        yield frame


def generate(
    model: Denoiser,
    sampler: Sampler,
    shape: Sequence[int],
    seeds: Sequence[int],
    labels: Tensor | None = None,
    batch_size: int = 64,
    on_step: Callable[[int], None] = lambda images: None,
) -> Iterator[Tensor]:
    """Images of each batch in turn, (B,C,H,W) in [-1, 1]; image i depends on seeds[i] alone.

    Args:
        labels: (N,) int64 for a class-conditional model.
        on_step: called after each network call with the number of images in it.
    """
    for first in range(0, len(seeds), batch_size):
        some = seeds[first : first + batch_size]
        frame = None
        for frame in trajectory(
            model, sampler, shape, some, None if labels is None else labels[first : first + len(some)]
        ):
            if frame.t > 0:
                on_step(len(some))
        assert frame is not None
        yield frame.x
