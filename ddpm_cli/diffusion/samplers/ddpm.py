"""Ancestral sampling (Ho et al. 2020, algorithm 2)."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from torch import Tensor

from ..denoiser import Denoise
from ..posterior import posterior
from ..schedule import Schedule, Spacing
from .base import Frame, Noise, check_steps


@dataclass(frozen=True)
class DDPM:
    """x_s ~ N(posterior mean at the predicted x0, variance); the last step adds no noise.

    Args:
        steps: network calls; null = the schedule's T. Fewer steps visit a sub-sequence of the training times.
        variance: `beta` (best for x_0 ~ N(0, I)) or `beta_tilde` (best for a single x_0); Ho et al. 2020, section 3.2.
        clip: limit the predicted x0 to [-1, 1] at every step, as the authors' code does.
        spacing: which training times are visited, see `DiscreteSchedule.times`.
    """

    steps: int | None = None
    variance: Literal["beta", "beta_tilde"] = "beta"
    clip: bool = True
    spacing: Spacing = "trailing"

    def __post_init__(self) -> None:
        check_steps(self.steps)

    def length(self, schedule: Schedule) -> int:
        return len(schedule.times(self.steps, self.spacing)) - 1

    def __call__(self, denoise: Denoise, schedule: Schedule, x: Tensor, noise: Noise) -> Iterator[Frame]:
        for t, s in pairwise(schedule.times(self.steps, self.spacing)):
            (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule(t), schedule(s)
            prediction = denoise(x, t)
            if self.clip:
                prediction = prediction.clipped(x, alpha_t, sigma_t)
            yield Frame(float(t), x, prediction.x0)
            q = posterior(alpha_t, sigma_t, alpha_s, sigma_s)
            x = q.of_x_t * x + q.of_x0 * prediction.x0
            if s > 0:
                x = x + getattr(q, self.variance).sqrt() * noise(x)
        yield Frame(0.0, x, x)
