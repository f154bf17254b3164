"""DPM-Solver++(2M) for the reverse SDE, whose noise corrects errors of earlier steps."""

from dataclasses import dataclass

from torch import Tensor

from .base import Noise
from .dpmpp_2m import DPMpp2M


@dataclass(frozen=True, kw_only=True)
class DPMpp2MSDE(DPMpp2M):
    """x_s = sigma_s / sigma_t e^-h x_t + alpha_s (1 - e^-2h) D + sigma_s sqrt(1 - e^-2h) z.

    Lu et al. 2022, "DPM-Solver++", section 5 (SDE-DPM-Solver++(2M)), D and h as in `DPMpp2M`. With D = x0 it is the
    posterior q(x_s | x_t, x0), as in DDPM with variance `beta_tilde`.
    """

    def step(
        self, x: Tensor, d: Tensor, shrink: Tensor, alpha: Tensor, sigma: Tensor, decay: Tensor, noise: Noise
    ) -> Tensor:
        fresh = 1 - decay.square()
        x = shrink * decay * x + alpha * fresh * d
        return x + sigma * fresh.sqrt() * noise(x) if sigma > 0 else x
