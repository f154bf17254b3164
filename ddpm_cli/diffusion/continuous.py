"""Schedules without a table: every t in (0, 1] is a training time."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .schedule import check_shift
from .spacing import Spacing, karras_noise, with_zero

EARLIEST = 1e-4
"""The smallest t > 0 of a flow: training draws none below it, and it is the last one of spacing=linspace and karras."""


@dataclass(frozen=True, kw_only=True)
class EDMSchedule:
    """alpha = 1, sigma = sigma_max t: variance exploding, as in Karras et al. 2022, where time is the noise level.

    Args:
        sigma_min, sigma_max: the lowest (before 0) and the highest noise level of samplers, for images in [-1, 1].
        rho: how strongly spacing=karras, which is the default (auto) here, prefers low noise.
        shift: factor on every noise level.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0
    shift: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max:
            raise ValueError(f"sigma_max: need 0 < sigma_min < sigma_max, got {self.sigma_min}, {self.sigma_max}")
        if self.rho <= 0:
            raise ValueError(f"rho: must be positive, got {self.rho}")
        check_shift(self.shift)

    @property
    def variance_preserving(self) -> bool:
        return False

    @property
    def _highest(self) -> float:
        return self.sigma_max * self.shift

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(t), self._highest * t

    def times(self, steps: int | None, spacing: Spacing = "auto") -> Tensor:
        steps = count(steps)
        low = self.sigma_min / self.sigma_max
        if spacing in ("auto", "karras"):
            return with_zero(karras_noise(low, 1.0, steps, self.rho))
        return even_times(steps, spacing, low)

    def conditioning(self, t: Tensor) -> Tensor:
        """c_noise = ln(sigma) / 4 (Karras et al. 2022, table 1)."""
        return torch.log((self._highest * t).clamp(min=1e-12)) / 4

    def training_time(self, u: Tensor) -> Tensor:
        """Uniform in log sigma between sigma_min and sigma_max."""
        return torch.exp((1 - u) * math.log(self.sigma_min / self.sigma_max))

    def time_of_noise_level(self, noise: Tensor) -> Tensor:
        return (noise / self._highest).clamp(0, 1)

    def nearest_training_time(self, t: Tensor) -> Tensor:
        return t.clamp(self.sigma_min / self.sigma_max, 1)


@dataclass(frozen=True, kw_only=True)
class FlowSchedule:
    """alpha = 1 - t, sigma = t: the straight paths of rectified flow (Liu et al. 2022; Lipman et al. 2022).

    Args:
        shift: factor on sigma / alpha at every time: t' = s t / (1 + (s - 1) t) (Esser et al. 2024, eq. 23).
    """

    shift: float = 1.0

    def __post_init__(self) -> None:
        check_shift(self.shift)

    @property
    def variance_preserving(self) -> bool:
        return False

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        scale = 1 + (self.shift - 1) * t
        return (1 - t) / scale, self.shift * t / scale

    def times(self, steps: int | None, spacing: Spacing = "auto") -> Tensor:
        if spacing == "karras":
            karras_noise(EARLIEST, math.inf, count(steps))  # raises ValueError
        return even_times(count(steps), spacing, EARLIEST)

    def conditioning(self, t: Tensor) -> Tensor:
        """1000 sigma, the range of embeddings that are made for a table of 1000 steps."""
        _, sigma = self(t)
        return 1000 * sigma

    def training_time(self, u: Tensor) -> Tensor:
        """Uniform in t over (0, 1]."""
        return self.nearest_training_time(1 - u)

    def time_of_noise_level(self, noise: Tensor) -> Tensor:
        ratio = noise / self.shift
        return torch.where(noise.isinf(), 1.0, ratio / (1 + ratio)).clamp(0, 1)

    def nearest_training_time(self, t: Tensor) -> Tensor:
        return t.clamp(EARLIEST, 1)


def count(steps: int | None) -> int:
    """`steps`. Raises ValueError unless it is a positive number."""
    if steps is None:
        raise ValueError("steps: this schedule has no steps of its own; set a number of steps")
    if steps < 1:
        raise ValueError(f"steps: must be at least 1, got {steps}")
    return steps


def even_times(steps: int, spacing: Spacing, earliest: float) -> Tensor:
    """Evenly spaced times from 1, then 0, (steps + 1,): `trailing` ends one step above 0, `linspace` at `earliest`."""
    if spacing in ("auto", "trailing"):
        return with_zero(1 - torch.arange(steps, dtype=torch.float64) / steps)
    if spacing == "linspace":
        return with_zero(torch.linspace(1, earliest if steps > 1 else 1, steps, dtype=torch.float64))
    raise ValueError(f"spacing: must be auto, trailing, linspace or karras with this schedule, got {spacing!r}")
