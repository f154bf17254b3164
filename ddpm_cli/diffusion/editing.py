"""Image editing with an unchanged generator: variations of an image, interpolation, inpainting.

Each task starts a sampler from another x_t or changes x_t on the way; sampler and network need no support for it.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.linalg import vector_norm

from .denoiser import Denoise
from .generate import run_sampler, start
from .noise import ImageNoise
from .samplers.base import Frame, Noise, Sampler
from .schedule import Schedule
from .spacing import Spacing
from .wrapper import ScheduleWrapper


@dataclass(frozen=True)
class Shortened(ScheduleWrapper):
    """The last round(steps * strength) steps of a schedule, at least one (Meng et al. 2022, SDEdit).

    Args:
        strength: in (0, 1]; 1 = all steps.

    Raises:
        ValueError: strength is out of range.
    """

    strength: float

    def __post_init__(self) -> None:
        if not 0 < self.strength <= 1:
            raise ValueError(f"strength: must be above 0 and at most 1, got {self.strength}")

    def times(self, steps: int | None, spacing: Spacing = "auto") -> Tensor:
        times = self.schedule.times(steps, spacing)
        return times[-max(1, round((len(times) - 1) * self.strength)) - 1 :]


@dataclass(frozen=True)
class Step(ScheduleWrapper):
    """One step from `t` to `s`, whatever the sampler's number of steps."""

    t: float
    s: float

    def times(self, steps: int | None, spacing: Spacing = "auto") -> Tensor:
        return torch.tensor([self.t, self.s], dtype=torch.float64)


def times_of(sampler: Sampler, schedule: Schedule) -> Tensor:
    """The times (length + 1,) that a sampler visits."""
    times_method = getattr(sampler, "times", None)
    times: Tensor = times_method(schedule) if times_method is not None else schedule.times(sampler.length(schedule))
    return times


def slerp(a: Tensor, b: Tensor, weight: Tensor | float) -> Tensor:
    """sin((1 - w) o) / sin(o) a + sin(w o) / sin(o) b, o the angle between a and b (Shoemake 1985, section 3.3).

    Between two noises it keeps their norm, whereas a straight line would have too little noise in the middle. Each
    image is one vector. Parallel vectors and zeros are interpolated linearly. w = 0 gives exactly a, w = 1 exactly b.

    Args:
        a, b: (B,...), broadcast against each other.
        weight: a number or (B,), in [0, 1].
    """
    w = torch.as_tensor(weight, dtype=a.dtype, device=a.device).reshape(-1, 1)
    flat_a, flat_b = a.flatten(1), b.flatten(1)
    lengths = vector_norm(flat_a, dim=1, keepdim=True) * vector_norm(flat_b, dim=1, keepdim=True)
    cosine = (flat_a * flat_b).sum(1, keepdim=True) / lengths.clamp(min=torch.finfo(a.dtype).tiny)
    angle = torch.acos(cosine.clamp(-1, 1))
    parallel = (angle.sin() < 1e-4) | (lengths == 0)
    sine = torch.where(parallel, 1.0, angle.sin())
    of_a = torch.where(parallel, 1 - w, torch.sin((1 - w) * angle) / sine)
    of_b = torch.where(parallel, w, torch.sin(w * angle) / sine)
    out = of_a * flat_a + of_b * flat_b
    return out.reshape(len(out), *a.shape[1:])


class BetweenNoise:
    """Noise between that of two sets of seeds: the `slerp` of every draw, which is again standard normal.

    Args:
        ones, others: the two seeds of each image.
        weights: (B,) 0 = the first seed, 1 = the second.
    """

    def __init__(self, ones: Sequence[int], others: Sequence[int], weights: Tensor):
        self.one, self.other, self.weights = ImageNoise(ones), ImageNoise(others), weights

    def first(self, shape: Sequence[int], device: torch.device | str) -> Tensor:
        """x_T of every image before scaling, (B, *shape) float32."""
        return slerp(self.one.first(shape, device), self.other.first(shape, device), self.weights)

    def __call__(self, like: Tensor) -> Tensor:
        return slerp(self.one(like), self.other(like), self.weights)


def entry(schedule: Schedule, sampler: Sampler, images: Tensor, strength: float, eps: Tensor) -> Tensor:
    """alpha x0 + sigma eps at the first time of `Shortened`; pure noise if strength is 1.

    Args:
        images: (B,C,H,W) or (1,C,H,W) in [-1, 1].
        eps: standard normal, (B,C,H,W).
    """
    if strength == 1:
        return start(schedule, eps)
    alpha, sigma = schedule(times_of(sampler, Shortened(schedule, strength))[0])
    return alpha * images + sigma * eps


def vary(
    denoise: Denoise, schedule: Schedule, sampler: Sampler, images: Tensor, strength: float, eps: Tensor, noise: Noise
) -> Iterator[Frame]:
    """Variations: the image is diffused part of the way, then denoised (Meng et al. 2022, algorithm 1); see `entry`."""
    x = entry(schedule, sampler, images, strength, eps)
    return run_sampler(denoise, Shortened(schedule, strength), sampler, x, noise)


def interpolate(
    denoise: Denoise,
    schedule: Schedule,
    sampler: Sampler,
    ends: tuple[Tensor, Tensor],
    weights: Tensor,
    strength: float,
    eps: Tensor,
    noise: Noise,
) -> Iterator[Frame]:
    """Interpolation: two images are diffused with the same eps, mixed and denoised (Ho et al. 2020, section 4.4).

    Because eps is shared, (1 - w) x_t + w x_t' = alpha ((1 - w) x0 + w x0') + sigma eps: the middle has the same noise.

    Args:
        ends: the two images, (1,C,H,W) or (B,C,H,W) each.
        weights: (B,), 0 = the first image.
    """
    one, other = (entry(schedule, sampler, end, strength, eps) for end in ends)
    middle = torch.lerp(one, other, weights.to(one).view(-1, *(1,) * (one.ndim - 1)))
    return run_sampler(denoise, Shortened(schedule, strength), sampler, middle, noise)


def moves(steps: int, resample: int, jump: int) -> list[tuple[int, int]]:
    """The path through the time indices 0..steps as pairs (from, to): denoising steps, and jumps back to more noise.

    Lugmayr et al. 2022, appendix B: at 0, j, 2j, ... < T - j steps from the end, jump back j steps, `resample` - 1
    times. A jump of `steps` or more is reduced to steps - 1.

    Raises:
        ValueError: resample or jump is below 1.
    """
    for name, value in (("resample", resample), ("jump", jump)):
        if value < 1:
            raise ValueError(f"{name}: must be at least 1, got {value}")
    jump = min(jump, max(steps - 1, 1))
    jumps_left = {steps - k: resample - 1 for k in range(0, steps - jump, jump)}
    path, i = [], 0
    while i < steps or jumps_left.get(i, 0):
        if jumps_left.get(i, 0):
            jumps_left[i] -= 1
            path.append((i, i - jump))
        else:
            path.append((i, i + 1))
        i = path[-1][1]
    return path


@dataclass(frozen=True)
class RePaint:
    """Inpainting (Lugmayr et al. 2022, algorithm 1): after each step, known pixels are replaced by the diffused image.

    x_s = m x_s^unknown + (1 - m)(alpha_s x0 + sigma_s eps). The unknown pixels were denoised without regard to this
    eps. Jumping back (`moves`), x_t = alpha_ts x_s + sqrt(sigma_t^2 - alpha_ts^2 sigma_s^2) z with
    alpha_ts = alpha_t / alpha_s, and denoising again harmonises the two parts.

    Every step is a separate run of the sampler, so a multistep sampler is of first order here.

    Args:
        resample: how often each part of the path is denoised; 1 = once.
        jump: steps per jump back.
    """

    resample: int = 10
    jump: int = 10

    def __post_init__(self) -> None:
        moves(1, self.resample, self.jump)

    def steps(self, sampler: Sampler, schedule: Schedule) -> list[Step]:
        """The denoising steps, in order."""
        times = times_of(sampler, schedule).tolist()
        return [Step(schedule, times[i], times[j]) for i, j in moves(len(times) - 1, self.resample, self.jump) if i < j]

    def __call__(
        self,
        denoise: Denoise,
        schedule: Schedule,
        sampler: Sampler,
        image: Tensor,
        mask: Tensor,
        eps: Tensor,
        noise: Noise,
    ) -> Iterator[Frame]:
        """A frame before each denoising step, then the result, whose known pixels are exactly those of the image.

        Args:
            image: (1,C,H,W) or (B,C,H,W) in [-1, 1].
            mask: bool, broadcasts against image; true = to be painted.
            eps: standard normal (B,C,H,W), the noise to start from.
        """
        times = times_of(sampler, schedule)
        x = start(schedule, eps)
        for i, j in moves(len(times) - 1, self.resample, self.jump):
            (alpha, sigma), (alpha_j, sigma_j) = schedule(times[i]), schedule(times[j])
            if j < i:
                ratio = alpha_j / alpha
                x = ratio * x + (sigma_j**2 - (ratio * sigma) ** 2).clamp(min=0).sqrt() * noise(x)
                continue
            first, *_, last = run_sampler(denoise, Step(schedule, float(times[i]), float(times[j])), sampler, x, noise)
            yield first
            known = alpha_j * image + sigma_j * noise(x) if j < len(times) - 1 else image
            x = torch.where(mask, last.x, known.to(x.dtype))
        yield Frame(0.0, x, x)


def ping_pong(count: int) -> Tensor:
    """(count,) weights 0 -> 1 -> 0 that slow down at both ends and form a smooth loop."""
    i = torch.arange(count, dtype=torch.float64)
    turn = torch.minimum(i, count - i) / count  # so that the second half has exactly the weights of the first
    return (1 - torch.cos(2 * math.pi * turn)) / 2
