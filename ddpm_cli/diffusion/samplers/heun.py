"""Heun's method for the probability flow ODE: second order, two network calls a step."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from ..denoiser import Denoise
from ..schedule import Schedule
from ..target import Prediction
from .base import Frame, Noise
from .churn import Churning

FAR = 1000
"""sigma / alpha that counts as pure noise: EDM begins at 80, the linear schedule at 157, the cosine one at 20,000."""


@dataclass(frozen=True, kw_only=True)
class Heun(Churning):
    """Euler's step, then the mean of the slopes at both ends (Karras et al. 2022, algorithm 2); none at the last step.

    The ODE is dz / dc = slope with z = x / alpha, clock c = sigma / alpha, slope eps. Where the walk begins in (nearly)
    pure noise that clock starts at (or near) infinity and steps next to it are never small, so above a start of 1000 it
    is the straight path's: z = x / (alpha + sigma), c = sigma / (alpha + sigma), slope eps - x0, which is the same ODE.
    """

    def calls(self, schedule: Schedule) -> int:
        return 2 * self.length(schedule) - int(self.times(schedule)[-1] == 0)

    def __call__(self, denoise: Denoise, schedule: Schedule, x: Tensor, noise: Noise) -> Iterator[Frame]:
        times = self.times(schedule)
        alpha, sigma = schedule(times[0])
        straight = bool(sigma > FAR * alpha)
        for t, s in pairwise(times):
            raised, up = self.churned(schedule, x, t, noise)
            first = self.predict(denoise, raised, up, *schedule(up))
            yield Frame(float(t), x, first.x0)
            scale_t, clock_t = _clock(*schedule(up), straight)
            scale_s, clock_s = _clock(*schedule(s), straight)
            slope = _slope(first, straight)
            x = scale_s * (raised / scale_t + (clock_s - clock_t) * slope)
            if s > 0:
                second = _slope(self.predict(denoise, x, s, *schedule(s)), straight)
                x = scale_s * (raised / scale_t + (clock_s - clock_t) * (slope + second) / 2)
        yield Frame(0.0, x, x)


def _clock(alpha: Tensor, sigma: Tensor, straight: bool) -> tuple[Tensor, Tensor]:
    """What x is divided by, and the time of the ODE."""
    scale = alpha + sigma if straight else alpha
    return scale, sigma / scale


def _slope(prediction: Prediction, straight: bool) -> Tensor:
    return prediction.eps - prediction.x0 if straight else prediction.eps
