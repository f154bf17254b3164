"""DPM-Solver++(2M): second order with one network call per step."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from ..denoiser import Denoise
from ..schedule import Schedule
from .base import Frame, Noise, Stepper


@dataclass(frozen=True, kw_only=True)
class DPMpp2M(Stepper):
    """x_s = sigma_s / sigma_t x_t + alpha_s (1 - e^-h) D, D = x0 + (x0 - x0_before) h / (2 h_before).

    Lu et al. 2022, "DPM-Solver++", algorithm 2, with h = lambda_s - lambda_t and lambda = ln(alpha / sigma). The first
    and the last step are of first order, D = x0; so is the step after one from pure noise, where h_before is infinite.
    """

    def __call__(self, denoise: Denoise, schedule: Schedule, x: Tensor, noise: Noise) -> Iterator[Frame]:
        before: Tensor | None = None
        h_before = torch.zeros(())
        for t, s in pairwise(self.times(schedule)):
            (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule(t), schedule(s)
            prediction = self.predict(denoise, x, t, alpha_t, sigma_t)
            yield Frame(float(t), x, prediction.x0)
            decay = decay_of(alpha_t, sigma_t, alpha_s, sigma_s)
            h = -torch.log(decay)
            d = extrapolated(prediction.x0, before, h, h_before) if s > 0 else prediction.x0
            x = self.step(x, d, sigma_s / sigma_t, alpha_s, sigma_s, decay, noise)
            before, h_before = prediction.x0, h
        yield Frame(0.0, x, x)

    def step(
        self, x: Tensor, d: Tensor, shrink: Tensor, alpha: Tensor, sigma: Tensor, decay: Tensor, noise: Noise
    ) -> Tensor:
        """x_s from x_t; shrink = sigma_s / sigma_t, alpha and sigma at s, decay = e^-h."""
        return shrink * x + alpha * (1 - decay) * d


def decay_of(alpha_t: Tensor, sigma_t: Tensor, alpha_s: Tensor, sigma_s: Tensor) -> Tensor:
    """e^-h = (alpha_t / sigma_t) / (alpha_s / sigma_s); 0 if one end has no noise or no signal."""
    return (alpha_t * sigma_s) / (sigma_t * alpha_s)


def extrapolated(x0: Tensor, before: Tensor | None, h: Tensor, h_before: Tensor) -> Tensor:
    """x0 extrapolated linearly by half a step from the last two."""
    return x0 if before is None else x0 + (x0 - before) * (h / (2 * h_before))
