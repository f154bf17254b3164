"""Noise schedules: q(x_t | x_0) = N(alpha_t x_0, sigma_t^2 I) for t in [0, 1], with a strictly decreasing SNR.

A table of T steps, beta_1 .. beta_T, is such a schedule sampled at t = k/T:
alpha_t^2 = alphas_cumprod[k] = prod(1 - beta_i), sigma_t^2 = 1 - alpha_t^2, and t = 0 is the clean image. Between grid
points the angle atan(sigma / alpha) is interpolated linearly, which is finite even if no signal is left at T. Schedules
without a table are in `continuous`.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from .spacing import Spacing, karras_noise, table_times, with_zero

MOST_STEPS = 1_000_000


class Schedule(Protocol):
    """The interface of a noise schedule for samplers, targets and networks."""

    @property
    def variance_preserving(self) -> bool:
        """Whether alpha^2 + sigma^2 = 1 at all times."""
        ...

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """t (*) in [0, 1] -> alpha (*), sigma (*)."""
        ...

    def times(self, steps: int | None, spacing: Spacing = "auto") -> Tensor:
        """Times of a sampler, (steps + 1,) float64, decreasing, the last one 0; None = as many steps as in training."""
        ...

    def conditioning(self, t: Tensor) -> Tensor:
        """The network's time input for t (*), of the same shape."""
        ...

    def training_time(self, u: Tensor) -> Tensor:
        """u (*) uniform in [0, 1) -> times (*) as uniform training draws them."""
        ...

    def time_of_noise_level(self, noise: Tensor) -> Tensor:
        """The t (*) at which sigma / alpha = noise (*), clamped to [0, 1]."""
        ...

    def nearest_training_time(self, t: Tensor) -> Tensor:
        """The nearest time (*) that training can draw: a grid point if there is a table."""
        ...


def linear_betas(steps: int, start: float, end: float) -> Tensor:
    """beta_1 .. beta_T evenly spaced (Ho et al. 2020, section 4). (T,) float64."""
    return torch.linspace(start, end, steps, dtype=torch.float64)


def betas_of(alphas_cumprod: Tensor, max_beta: float) -> Tensor:
    """beta_k = min(1 - abar_k / abar_{k-1}, max_beta) for k = 1..T, from abar_0 .. abar_T. (T+1,) -> (T,)."""
    return (1 - alphas_cumprod[1:] / alphas_cumprod[:-1]).clamp(max=max_beta)


@dataclass(frozen=True, kw_only=True)
class DiscreteSchedule:
    """A table of T steps. Subclasses define `base_betas`; everything else follows from it.

    Args:
        steps: T.
        shift: factor on sigma / alpha at every time; above 1 = more noise, which larger images need (Hoogeboom et al.
            2023, section 2.1: log SNR + 2 log(64 / d) for d pixels is shift = d / 64).
        zero_terminal_snr: rescale alpha so that no signal is left at T (Lin et al. 2023, algorithm 1).
    """

    steps: int = 1000
    shift: float = 1.0
    zero_terminal_snr: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= MOST_STEPS:
            raise ValueError(f"steps: must be at least 1 and at most {MOST_STEPS:,}, got {self.steps}")
        check_shift(self.shift)
        if self.zero_terminal_snr and self.steps < 2:
            raise ValueError(f"zero_terminal_snr: needs at least 2 steps, got {self.steps}")

    @property
    def variance_preserving(self) -> bool:
        return True

    @cached_property
    def base_betas(self) -> Tensor:
        """beta_1 .. beta_T before shift and rescaling, (T,) float64."""
        raise NotImplementedError

    @cached_property
    def alphas_cumprod(self) -> Tensor:
        """abar_0 = 1, abar_1 .. abar_T, (T+1,) float64."""
        abar = torch.cat([torch.ones(1, dtype=torch.float64), torch.cumprod(1 - self.base_betas, 0)])
        if self.shift != 1:
            abar = abar / (abar + self.shift**2 * (1 - abar))
        return without_terminal_signal(abar) if self.zero_terminal_snr else abar

    @cached_property
    def betas(self) -> Tensor:
        """beta_1 .. beta_T, (T,) float64."""
        return 1 - self.alphas_cumprod[1:] / self.alphas_cumprod[:-1]

    @cached_property
    def _angles(self) -> dict[torch.device, Tensor]:
        abar = self.alphas_cumprod
        noise = -torch.expm1(torch.log(abar))  # 1 - abar
        return {torch.device("cpu"): torch.atan2(noise.sqrt(), abar.sqrt())}

    def _angles_on(self, device: torch.device) -> Tensor:
        tables = self._angles
        if device not in tables:  # copied once per device, so that no training step waits for a transfer
            table = tables[torch.device("cpu")]
            tables[device] = table.to(device, torch.float32 if device.type == "mps" else torch.float64)
        return tables[device]

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """alpha_t = prod sqrt(1 - beta_i), sigma_t = sqrt(1 - alpha_t^2), in the dtype and on the device of t."""
        table = self._angles_on(t.device)
        k = (t.to(table.dtype) * self.steps).clamp(0, self.steps)
        low = k.floor().clamp(max=self.steps - 1)
        index = low.long()
        angle = torch.lerp(table[index], table[index + 1], k - low)
        alpha = torch.where(angle < math.pi / 2, angle.cos(), 0.0)  # cos(pi / 2) in floating point is not 0
        return alpha.to(t.dtype), angle.sin().to(t.dtype)

    def times(self, steps: int | None = None, spacing: Spacing = "auto") -> Tensor:
        """The `steps` of the T training times that a sampler visits, then 0; see `spacing`.

        Raises:
            ValueError: steps is outside 1..T.
        """
        steps = self.steps if steps is None else steps
        if spacing != "karras":
            return table_times(self.steps, steps, spacing)
        alpha, sigma = self(torch.tensor([1 / self.steps, 1.0], dtype=torch.float64))
        low, high = (sigma / alpha).tolist()
        return with_zero(self.time_of_noise_level(karras_noise(low, high, steps)))

    def conditioning(self, t: Tensor) -> Tensor:
        """The index 0..T-1 in the table, as a float, so that times between grid points differ."""
        return t * self.steps - 1

    def training_time(self, u: Tensor) -> Tensor:
        """Uniform over {1..T} / T (Ho et al. 2020, algorithm 1)."""
        return ((u * self.steps).floor() + 1).clamp(max=self.steps) / self.steps

    def time_of_noise_level(self, noise: Tensor) -> Tensor:
        table = self._angles_on(noise.device)
        angle = torch.atan(noise.to(table.dtype)).clamp(table[0], table[-1])
        high = torch.searchsorted(table, angle.contiguous()).clamp(1, self.steps)
        fraction = (angle - table[high - 1]) / (table[high] - table[high - 1])
        return ((high - 1 + fraction) / self.steps).to(noise.dtype)

    def nearest_training_time(self, t: Tensor) -> Tensor:
        return (t * self.steps).round().clamp(1, self.steps) / self.steps


def input_norm(alpha: Tensor, sigma: Tensor) -> Tensor:
    """The factor by which x_t is divided for the network: max(1, sqrt(alpha^2 + sigma^2))."""
    return (alpha.square() + sigma.square()).sqrt().clamp(min=1)


def check_shift(shift: float) -> None:
    """Raises ValueError unless the shift is positive and finite."""
    if not 0 < shift < math.inf:
        raise ValueError(f"shift: must be positive, got {shift}")


def without_terminal_signal(abar: Tensor) -> Tensor:
    """sqrt(abar) minus its last value, scaled to keep abar_1 (Lin et al. 2023, algorithm 1). (T+1,) -> (T+1,)."""
    root = abar[1:].sqrt()
    return torch.cat([abar[:1], ((root - root[-1]) * root[0] / (root[0] - root[-1])).square()])


@dataclass(frozen=True, kw_only=True)
class LinearSchedule(DiscreteSchedule):
    """beta_1 .. beta_T linear from `beta_start` to `beta_end` (Ho et al. 2020, section 4: T=1000, 1e-4 to 0.02)."""

    beta_start: float = 1e-4
    beta_end: float = 0.02

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.beta_start <= self.beta_end < 1:
            raise ValueError(f"beta_end: need 0 < beta_start <= beta_end < 1, got {self.beta_start}, {self.beta_end}")

    @cached_property
    def base_betas(self) -> Tensor:
        return linear_betas(self.steps, self.beta_start, self.beta_end)


@dataclass(frozen=True, kw_only=True)
class ScaledLinearSchedule(LinearSchedule):
    """beta linear in its square root (Rombach et al. 2022, the latent diffusion models: 0.00085 to 0.012)."""

    beta_start: float = 0.00085
    beta_end: float = 0.012

    @cached_property
    def base_betas(self) -> Tensor:
        return linear_betas(self.steps, math.sqrt(self.beta_start), math.sqrt(self.beta_end)).square()


@dataclass(frozen=True, kw_only=True)
class CosineSchedule(DiscreteSchedule):
    """abar_t = f(t) / f(0), f(t) = cos^2((t + s) / (1 + s) pi / 2) (Nichol & Dhariwal 2021, eq. 17)."""

    s: float = 0.008
    max_beta: float = 0.999

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.s <= 0:
            raise ValueError(f"s: must be positive, got {self.s}")
        _check_max_beta(self.max_beta)

    @cached_property
    def base_betas(self) -> Tensor:
        t = torch.linspace(0, 1, self.steps + 1, dtype=torch.float64)
        f = torch.cos((t + self.s) / (1 + self.s) * math.pi / 2).square()
        return betas_of(f, self.max_beta)


@dataclass(frozen=True, kw_only=True)
class SigmoidSchedule(DiscreteSchedule):
    """abar_t falls as a sigmoid from `start` to `end` at temperature `tau`, scaled to 1..0 (Jabri et al. 2022)."""

    start: float = -3.0
    end: float = 3.0
    tau: float = 1.0
    max_beta: float = 0.999

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.start >= self.end:
            raise ValueError(f"end: must be above start ({self.start}), got {self.end}")
        if self.tau <= 0:
            raise ValueError(f"tau: must be positive, got {self.tau}")
        _check_max_beta(self.max_beta)

    @cached_property
    def base_betas(self) -> Tensor:
        t = torch.linspace(0, 1, self.steps + 1, dtype=torch.float64)
        g = torch.sigmoid(((self.end - self.start) * t + self.start) / self.tau)
        return betas_of((g[-1] - g) / (g[-1] - g[0]), self.max_beta)


def _check_max_beta(max_beta: float) -> None:
    if not 0 < max_beta < 1:
        raise ValueError(f"max_beta: must be in (0, 1), got {max_beta}")
