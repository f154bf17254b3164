"""Stochastic churn (Karras et al. 2022, algorithm 2): add a little noise before each step."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..schedule import Schedule
from .base import Noise, Stepper


@dataclass(frozen=True, kw_only=True)
class Churning(Stepper):
    """The options of churn. Noise levels are sigma / alpha, so that they mean the same for every schedule.

    Args:
        s_churn: amount of churn over all steps of the full schedule, even if only a part is sampled; 0 = none, a
            deterministic sampler.
        s_tmin, s_tmax: the noise levels between which churn is active; s_tmax None = no limit.
        s_noise: standard deviation of the added noise, relative to the exact one.
    """

    s_churn: float = 0.0
    s_tmin: float = 0.0
    s_tmax: float | None = None
    s_noise: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("s_churn", "s_tmin", "s_noise"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}: must be at least 0, got {getattr(self, name)}")
        if self.s_tmax is not None and self.s_tmax < self.s_tmin:
            raise ValueError(f"s_tmax: must be at least s_tmin ({self.s_tmin}), got {self.s_tmax}")

    def churned(self, schedule: Schedule, x: Tensor, t: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """(x, t) with more noise: up = (1 + gamma) sigma, x + sqrt(up^2 - sigma^2) s_noise z, written for alpha = 1.

        The noise level never exceeds that of t = 1, and nothing is added where no signal is left.
        """
        if not self.s_churn:
            return x, t
        alpha, sigma = schedule(t)
        level = float(sigma / alpha) if alpha > 0 else math.inf
        top = math.inf if self.s_tmax is None else self.s_tmax
        gamma = min(self.s_churn / self.length(getattr(schedule, "unwrapped", schedule)), math.sqrt(2) - 1)
        if not math.isfinite(level) or not self.s_tmin <= level <= top:
            return x, t
        raised = schedule.time_of_noise_level(torch.as_tensor(level * (1 + gamma), dtype=torch.float64))
        alpha_up, sigma_up = schedule(raised)
        added = ((sigma_up / alpha_up) ** 2 - level**2).clamp(min=0).sqrt() * self.s_noise
        return alpha_up * (x / alpha + added * noise(x)), raised
