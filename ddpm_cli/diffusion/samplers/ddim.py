"""Denoising diffusion implicit models (Song et al. 2020): fewer steps, deterministic at eta = 0."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from ..denoiser import Denoise
from ..posterior import posterior
from ..schedule import Schedule
from .base import Frame, Noise, Stepper


@dataclass(frozen=True, kw_only=True)
class DDIM(Stepper):
    """x_s = alpha_s x0 + sqrt(sigma_s^2 - v) eps + sqrt(v) z with v = eta^2 beta_tilde (eq. 12 and 16).

    Args:
        eta: 0 = deterministic, 1 = the noise of DDPM with variance `beta_tilde`.
    """

    eta: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta: must be between 0 (deterministic) and 1 (as noisy as DDPM), got {self.eta}")

    def __call__(self, denoise: Denoise, schedule: Schedule, x: Tensor, noise: Noise) -> Iterator[Frame]:
        for t, s in pairwise(self.times(schedule)):
            (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule(t), schedule(s)
            prediction = self.predict(denoise, x, t, alpha_t, sigma_t)
            yield Frame(float(t), x, prediction.x0)
            variance = self.eta**2 * posterior(alpha_t, sigma_t, alpha_s, sigma_s).beta_tilde
            # at eta = 1, rounding may make the difference slightly negative
            rest = (sigma_s**2 - variance).clamp(min=0).sqrt()
            x = alpha_s * prediction.x0 + rest * prediction.eps
            if self.eta > 0 and s > 0:
                x = x + variance.sqrt() * noise(x)
        yield Frame(0.0, x, x)
