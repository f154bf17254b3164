"""Ancestral sampling (Ho et al. 2020, algorithm 2)."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from ..denoiser import Denoise
from ..posterior import Variance, posterior
from ..schedule import Schedule
from .base import Frame, Noise, Stepper


@dataclass(frozen=True, kw_only=True)
class DDPM(Stepper):
    """x_s ~ N(posterior mean for the predicted x0, variance).

    Args:
        steps: None = the T steps of the schedule. Fewer steps visit a subset of the training times.
        variance: `beta` (best for x_0 ~ N(0, I)), `beta_tilde` (best for a single x_0; Ho et al. 2020, section 3.2) or
            `learned` (Nichol & Dhariwal 2021), which needs a network that was trained for it.
        noise_at_end: also add noise in the last step, of variance beta_1 = sigma^2 at the first training time, as the
            annotated DDPM does; algorithm 2 does not.
    """

    steps: int | None = None
    variance: Variance = "beta"
    noise_at_end: bool = False

    def __call__(self, denoise: Denoise, schedule: Schedule, x: Tensor, noise: Noise) -> Iterator[Frame]:
        for t, s in pairwise(self.times(schedule)):
            (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule(t), schedule(s)
            prediction = self.predict(denoise, x, t, alpha_t, sigma_t)
            yield Frame(float(t), x, prediction.x0)
            q = posterior(alpha_t, sigma_t, alpha_s, sigma_s)
            x = q.of_x_t * x + q.of_x0 * prediction.x0
            if s > 0 or self.noise_at_end:
                x = x + q.log_variance(self.variance, prediction.variance_fraction).mul(0.5).exp() * noise(x)
        yield Frame(0.0, x, x)
