"""The frames of `ddpm gif`, from a checkpoint to arrays."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..build import build
from ..data.images import Images, Progress, to_float
from ..diffusion.generate import trajectory
from ..diffusion.samplers import Frame, Sampler
from ..errors import DataError
from ..render.denoise import denoise_frames, evenly_visible
from ..render.files import write_png
from ..render.forward import forward_frames, forward_strip
from .loaded import Loaded, counter, finite


def denoise(
    loaded: Loaded,
    sampler: Sampler,
    seeds: Sequence[int],
    labels: Tensor | None,
    count: int,
    scale: int | None,
    progress: Progress,
) -> list[np.ndarray]:
    """x_t beside its x0 estimate, at most `count` frames; only those are kept in memory."""
    step = counter(progress, sampler, loaded, len(seeds))
    times, kept = [], []
    for frame in trajectory(loaded.model, sampler, loaded.shape, seeds, labels):
        step(len(seeds))
        times.append(frame.t)
        kept.append(Frame(frame.t, frame.x.cpu(), frame.x0.cpu()))
    finite(kept[-1].x)
    chosen = evenly_visible(torch.tensor(times, dtype=torch.float64), loaded.model.schedule, count)
    return denoise_frames([kept[i] for i in chosen], loaded.total_steps, scale=scale)


def forward(
    loaded: Loaded, root: str | None, n: int, seed: int, count: int, scale: int | None, strip: Path, progress: Progress
) -> list[np.ndarray]:
    """`n` held-out images dissolving; the strip at 0, 25, 50, 75 and 100 % is written as well."""
    images = real_images(loaded, root, n, seed, progress)
    schedule = loaded.model.schedule
    write_png(strip, forward_strip(images[:8], schedule, seed, scale=scale))
    return forward_frames(images, schedule, count, seed, loaded.total_steps, scale=scale)


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
