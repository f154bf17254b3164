"""Euler's method for the probability-flow ODE."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from ..denoiser import Denoise
from ..schedule import Schedule
from .base import Frame, Noise
from .churn import Churning


@dataclass(frozen=True, kw_only=True)
class Euler(Churning):
    """x_s = alpha_s x0 + sigma_s eps (Karras et al. 2022, algorithm 2 without its second-order correction).

    It is a first-order step of d(x / alpha) = eps d(sigma / alpha) (eq. 4, with eps for the scaled score), and also of
    dx = (eps - x0) dt along a straight path. Without churn it is DDIM with eta = 0.
    """

    def __call__(self, denoise: Denoise, schedule: Schedule, x: Tensor, noise: Noise) -> Iterator[Frame]:
        for t, s in pairwise(self.times(schedule)):
            raised, up = self.churned(schedule, x, t, noise)
            prediction = self.predict(denoise, raised, up, *schedule(up))
            yield Frame(float(t), x, prediction.x0)
            alpha_s, sigma_s = schedule(s)
            x = alpha_s * prediction.x0 + sigma_s * prediction.eps
        yield Frame(0.0, x, x)
