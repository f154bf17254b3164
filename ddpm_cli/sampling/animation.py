"""The animations of `ddpm gif`: denoising, and interpolation between two ends."""

import base64
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..build import check_fields, check_positive
from ..diffusion.editing import ping_pong
from ..diffusion.samplers import Frame
from ..diffusion.schedule import Schedule
from ..errors import ConfigError
from ..files import remove_parts
from ..progress import Progress, counter
from ..render.animate import encode_animation, write_animation
from ..render.denoise import FrameSpacing, denoise_frames, spaced
from ..render.files import write_png
from ..render.interpolate import interpolation_frames
from ..render.pixels import quantized, to_uint8
from ..render.time_label import TimeLabel, visible
from ..text import PathText
from .request import Request
from .task import Task, finite

Kind = Literal["denoise", "forward", "interpolate"]
BATCH = 64
"""Images per batch, in interpolations."""
FPS, HOLD = 15.0, 2.0
"""Defaults: frames per second, and seconds to hold the last frame."""


@dataclass(frozen=True, kw_only=True)
class AnimationOptions:
    """See conf/gif.yaml.

    Args:
        kind: denoise = x_t beside its x0 estimate; forward = real images to noise; interpolate = from one end to the
            other and back.
        frames: the maximum number of frames.
        spacing: motion = each frame changes about equally; even = t changes evenly.
        scale: enlarge each pixel of the model this many times; None = automatic.
        root: the folder of the dataset, if it has moved; for kind=forward.

    Raises:
        ConfigError: a number out of range.
    """

    kind: Kind = "denoise"
    frames: int = 48
    spacing: FrameSpacing = "motion"
    scale: int | None = None
    root: PathText | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        check_positive(frames=self.frames, scale=1 if self.scale is None else self.scale)
        if self.kind == "interpolate" and self.frames < 2:
            raise ConfigError(f"frames: interpolate needs at least 2, got {self.frames}")

    def check(self, request: Request) -> None:
        """Raises ConfigError for a request that does not fit this kind."""
        if self.kind == "forward" and request.task != "plain":
            raise ConfigError("kind: forward takes no init, mask or between; use kind=denoise, or leave them out")
        if self.kind == "interpolate" and request.between is None:
            raise ConfigError("kind: interpolate needs two ends; set between=[PATH,PATH] or two seeds, between=[3,17]")


@dataclass(frozen=True, eq=False)
class Animation:
    """frames: (H,W,C) uint8, all of one size. strip: for kind=forward, five times side by side in one picture."""

    kind: Kind
    frames: list[np.ndarray] = field(repr=False)
    strip: np.ndarray | None = field(default=None, repr=False)

    def save(self, path: str | Path, fps: float = FPS, hold: float = HOLD) -> Path:
        """Write a .gif or .mp4, by the suffix of `path`; a strip is written beside it as .png. Returns the path.

        Raises:
            ConfigError: another suffix, fps or hold out of range, mp4 without its extra.
            OSError: it cannot be written.
        """
        path = Path(path)
        if self.strip is not None:
            strip = path.with_suffix(".png")
            remove_parts(path.parent, only={strip.name})
            write_png(strip, self.strip)
        try:
            write_animation(path, self.frames, fps=fps, hold=self._hold(hold), format=path.suffix[1:])
        except ValueError as error:
            raise ConfigError(str(error)) from error
        return path

    def _repr_html_(self) -> str:
        """The animation for display in notebooks."""
        gif = base64.b64encode(encode_animation(self.frames, FPS, self._hold(HOLD))).decode()
        return f'<img src="data:image/gif;base64,{gif}" alt="{self.kind}">'

    def _hold(self, hold: float) -> float:
        """Seconds to hold the last frame; 0 for an interpolation, which never stops moving."""
        return 0.0 if self.kind == "interpolate" else hold


class PingPong(NamedTuple):
    """weights: of each frame, from 0 to 1 and back. distinct: the different weights, ascending. place: the index into
    `distinct` of each frame."""

    weights: Tensor
    distinct: Tensor
    place: Tensor

    @classmethod
    def of(cls, frames: int) -> "PingPong":
        weights = ping_pong(frames)
        return cls(weights, *weights.unique(sorted=True, return_inverse=True))


def interpolation(
    task: Task, request: Request, loop: PingPong, options: AnimationOptions, progress: Progress
) -> Animation:
    """An interpolation from one end to the other and back. task: draws n images for each distinct weight in turn."""
    assert request.between is not None
    n = task.n // len(loop.distinct)
    batches = task.batches(max(n, BATCH // n * n), counter(progress, task.steps, task.n), shrink=True)
    drawn = torch.cat([to_uint8(finite(images)) for _, images in batches]).split(n)
    names = [_seeds(end, n) if isinstance(end, int) else Path(end).stem for end in request.between]
    pictures = [drawn[i] for i in loop.place.tolist()]
    frames = interpolation_frames(pictures, loop.weights.tolist(), (names[0], names[1]), options.scale)
    return Animation("interpolate", frames)


def _seeds(first: int, n: int) -> str:
    """The seeds of the ends of n interpolations."""
    return f"seed {first}" if n == 1 else f"seeds {first}-{first + n - 1}"


def denoising(
    task: Task, schedule: Schedule, label: TimeLabel, options: AnimationOptions, progress: Progress
) -> Animation:
    """x_t beside its x0 estimate, with the inputs of the task to the left of both.

    Of a task that goes back in time (RePaint), the last pass at each time is shown.
    """
    step = counter(progress, task.steps, task.n)
    kept: dict[float, Frame] = {}
    last = None
    for last in task.frames(range(task.n)):
        step(task.n if last.t > 0 else 0)
        kept.pop(last.t, None)
        # kept as bytes on the device: a copy to the host would make every step wait
        kept[last.t] = Frame(last.t, quantized(visible(last.x, last.t, schedule)), quantized(last.x0))
    assert last is not None
    finite(last.x)
    times = sorted(kept, reverse=True)
    chosen = spaced(torch.tensor(times, dtype=torch.float64), schedule, options.frames, options.spacing)
    given = torch.cat(list(task.inputs.values())) if task.inputs else None
    frames = denoise_frames([kept[times[i]] for i in chosen], label, scale=options.scale, given=given)
    return Animation("denoise", frames)
