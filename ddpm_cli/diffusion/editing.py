"""Image tasks from a generator as it is: variations of an image, interpolation, inpainting.

They all start or steer a sampler at another x_t; neither the sampler nor the network knows of it.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .denoiser import Denoise
from .generate import run_sampler, start
from .noise import ImageNoise
from .samplers.base import Frame, Noise, Sampler
from .schedule import Schedule
from .spacing import Spacing
from .wrapper import ScheduleWrapper


@dataclass(frozen=True)
class Shortened(ScheduleWrapper):
    """The last round(steps * strength) steps, at least one: a sampler that starts part-way (Meng et al. 2022, SDEdit).

    Args:
        strength: in (0, 1]; 1 = the whole way.

    Raises:
        ValueError: a strength out of range.
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
    """One step from `t` to `s`, whatever the sampler asks for."""

    t: float
    s: float

    def times(self, steps: int | None, spacing: Spacing = "auto") -> Tensor:
        return torch.tensor([self.t, self.s], dtype=torch.float64)


def times_of(sampler: Sampler, schedule: Schedule) -> Tensor:
    """The times (length + 1,) that a sampler visits."""
    own = getattr(sampler, "times", None)
    times: Tensor = own(schedule) if own is not None else schedule.times(sampler.length(schedule))
    return times


def slerp(a: Tensor, b: Tensor, weight: Tensor | float) -> Tensor:
    """sin((1 - w) o) / sin(o) a + sin(w o) / sin(o) b, o the angle between a and b (Shoemake 1985, section 3.3).

    Between two noises it stays as long as they are, where a straight line would pass through too little noise. Each
    image is one vector. Parallel ones, and a zero, are interpolated linearly. w = 0 gives a and w = 1 gives b, exactly.

    Args:
        a, b: (B,...), broadcast against each other.
        weight: a number or (B,), in [0, 1].
    """
    w = torch.as_tensor(weight, dtype=a.dtype, device=a.device).reshape(-1, 1)
    flat_a, flat_b = a.flatten(1), b.flatten(1)
    lengths = flat_a.norm(dim=1, keepdim=True) * flat_b.norm(dim=1, keepdim=True)
    cosine = (flat_a * flat_b).sum(1, keepdim=True) / lengths.clamp(min=torch.finfo(a.dtype).tiny)
    angle = torch.acos(cosine.clamp(-1, 1))
    parallel = (angle.sin() < 1e-4) | (lengths == 0)
    sine = torch.where(parallel, 1.0, angle.sin())
    of_a = torch.where(parallel, 1 - w, torch.sin((1 - w) * angle) / sine)
    of_b = torch.where(parallel, w, torch.sin(w * angle) / sine)
    out = of_a * flat_a + of_b * flat_b
    return out.reshape(len(out), *a.shape[1:])


class BetweenNoise:
    """The noise on the way from some seeds to others: `slerp` of every draw, so it stays standard normal.

    Args:
        ones, others: a seed for each image.
        weights: (B,) how far along each image is.
    """

    def __init__(self, ones: Sequence[int], others: Sequence[int], weights: Tensor):
        self.one, self.other, self.weights = ImageNoise(ones), ImageNoise(others), weights

    def first(self, shape: Sequence[int], device: torch.device | str) -> Tensor:
        """x_T of every image before its scale, (B, *shape) float32."""
        return slerp(self.one.first(shape, device), self.other.first(shape, device), self.weights)

    def __call__(self, like: Tensor) -> Tensor:
        return slerp(self.one(like), self.other(like), self.weights)


def entry(schedule: Schedule, sampler: Sampler, images: Tensor, strength: float, eps: Tensor) -> Tensor:
    """alpha x0 + sigma eps at the first time of `Shortened`; with a strength of 1 plain noise.

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
    """Variations: the image diffused part of the way and denoised (Meng et al. 2022, algorithm 1); see `entry`."""
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
    """Between two images: both diffused with the same eps, interpolated, denoised (Ho et al. 2020, section 4.4).

    As the eps is shared, (1 - w) x_t + w x_t' = alpha ((1 - w) x0 + w x0') + sigma eps: no less noisy in the middle.

    Args:
        ends: the two images, (1,C,H,W) or (B,C,H,W) each.
        weights: (B,), 0 = the first image.
    """
    one, other = (entry(schedule, sampler, end, strength, eps) for end in ends)
    middle = torch.lerp(one, other, weights.to(one).view(-1, *(1,) * (one.ndim - 1)))
    return run_sampler(denoise, Shortened(schedule, strength), sampler, middle, noise)


def moves(steps: int, resample: int, jump: int) -> list[tuple[int, int]]:
    """The way through the times 0..steps as pairs (from, to): steps down, and jumps back to where there was more noise.

    Lugmayr et al. 2022, appendix B: at 0, j, 2j, ... < T - j steps from the end, j steps back, `resample` - 1 times. A
    jump of all steps or more is taken as all but one.

    Raises:
        ValueError: resample or jump below 1.
    """
    for name, value in (("resample", resample), ("jump", jump)):
        if value < 1:
            raise ValueError(f"{name}: must be at least 1, got {value}")
    jump = min(jump, max(steps - 1, 1))
    left = {steps - k: resample - 1 for k in range(0, steps - jump, jump)}
    way, at = [], 0
    while at < steps or left.get(at, 0):
        if left.get(at, 0):
            left[at] -= 1
            way.append((at, at - jump))
        else:
            way.append((at, at + 1))
        at = way[-1][1]
    return way


@dataclass(frozen=True)
class RePaint:
    """Inpainting (Lugmayr et al. 2022, algorithm 1): after each step the known pixels are those of the diffused image.

    x_s = m x_s^unknown + (1 - m)(alpha_s x0 + sigma_s eps). What the step made of the unknown pixels did not know these
    eps; going back, x_t = alpha_ts x_s + sqrt(sigma_t^2 - alpha_ts^2 sigma_s^2) z with alpha_ts = alpha_t / alpha_s
    (`moves`), and down again brings the two parts together.

    Every step is a run of the sampler by itself, so one that learns from earlier steps is of first order here.

    Args:
        resample: how often each part of the way is walked; 1 = once.
        jump: how many steps it goes back at a time.
    """

    resample: int = 10
    jump: int = 10

    def __post_init__(self) -> None:
        moves(1, self.resample, self.jump)

    def steps(self, sampler: Sampler, schedule: Schedule) -> list[Step]:
        """Those down, in order."""
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
        """A frame before each step down and the result, in which known pixels are exactly the image's.

        Args:
            image: (1,C,H,W) or (B,C,H,W) in [-1, 1].
            mask: bool, broadcasts against image: true where it is to be painted.
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
    """(count,) weights 0 -> 1 -> 0 that slow down at both ends; after the last one the first one follows smoothly."""
    i = torch.arange(count, dtype=torch.float64)
    turn = torch.minimum(i, count - i) / count  # so that the way back has exactly the weights of the way there
    return (1 - torch.cos(2 * math.pi * turn)) / 2
