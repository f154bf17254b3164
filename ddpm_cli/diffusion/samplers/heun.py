"""Heun's method for the probability-flow ODE: second order, two network calls per step."""

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
"""sigma / alpha above which x_t is (nearly) pure noise: EDM starts at 80, linear schedules at 157, cosine at 20,000."""


@dataclass(frozen=True, kw_only=True)
class Heun(Churning):
    """Euler's step, then the mean of the slopes at both ends; Euler in the last step (Karras et al. 2022, algorithm 2).

    The ODE is dz / dc = slope with z = x / alpha, time c = sigma / alpha and slope eps. If sampling starts from pure
    noise, or nearly so, c starts near infinity and the first steps are never small. So if c starts above 1000, the time
    of the straight path is used: z = x / (alpha + sigma), c = sigma / (alpha + sigma), slope eps - x0: the same ODE.
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
    """The divisor of x, and the time of the ODE."""
    scale = alpha + sigma if straight else alpha
    return scale, sigma / scale


def _slope(prediction: Prediction, straight: bool) -> Tensor:
    return prediction.eps - prediction.x0 if straight else prediction.eps
