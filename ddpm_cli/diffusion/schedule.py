"""Noise schedules: q(x_t | x_0) = N(alpha_t x_0, sigma_t^2 I) for t in [0, 1], with a strictly falling SNR.

A T-step table beta_1 .. beta_T is the same thing seen at t = k/T: alpha_t^2 = alphas_cumprod[k] = prod(1 - beta_i),
sigma_t^2 = 1 - alpha_t^2, and t = 0 is the clean image. Between grid points log alpha is interpolated linearly.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

import torch
from torch import Tensor

Spacing = Literal["trailing", "leading", "linspace", "quadratic"]


class Schedule(Protocol):
    """What a sampler, a target and a network need to know about the noise."""

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """t (*) in [0, 1] -> alpha (*), sigma (*)."""
        ...

    def times(self, steps: int | None, spacing: Spacing = "trailing") -> Tensor:
        """(steps + 1,) float64, decreasing, the last one 0. `None` asks for as many steps as training had."""
        ...

    def conditioning(self, t: Tensor) -> Tensor:
        """What the network is told about t (*), same shape."""
        ...

    def time(self, u: Tensor) -> Tensor:
        """u (*) uniform in [0, 1) -> the times that training draws."""
        ...


def linear_betas(steps: int, start: float, end: float) -> Tensor:
    """beta_1 .. beta_T evenly spaced (Ho et al. 2020, section 4). (T,) float64."""
    return torch.linspace(start, end, steps, dtype=torch.float64)


def betas_of(alphas_cumprod: Tensor, max_beta: float) -> Tensor:
    """beta_k = min(1 - abar_k / abar_{k-1}, max_beta) for k = 1..T, from abar_0 .. abar_T. (T+1,) -> (T,)."""
    return (1 - alphas_cumprod[1:] / alphas_cumprod[:-1]).clamp(max=max_beta)


@dataclass(frozen=True)
class DiscreteSchedule:
    """A T-step table. Subclasses give `betas`; everything else follows from it."""

    steps: int = 1000

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps: must be at least 1, got {self.steps}")

    @cached_property
    def betas(self) -> Tensor:
        """beta_1 .. beta_T, (T,) float64."""
        raise NotImplementedError

    @cached_property
    def alphas_cumprod(self) -> Tensor:
        """abar_0 = 1, abar_1 .. abar_T, (T+1,) float64."""
        return torch.cat([torch.ones(1, dtype=torch.float64), torch.cumprod(1 - self.betas, 0)])

    @cached_property
    def _log_alphas(self) -> dict[torch.device, Tensor]:
        return {torch.device("cpu"): 0.5 * torch.log(self.alphas_cumprod)}

    def _log_alpha_on(self, device: torch.device) -> Tensor:
        tables = self._log_alphas
        if device not in tables:  # copied once per device, so that a training step never waits for a transfer
            table = tables[torch.device("cpu")]
            tables[device] = table.to(device, torch.float32 if device.type == "mps" else torch.float64)
        return tables[device]

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """alpha_t = prod sqrt(1 - beta_i), sigma_t = sqrt(1 - alpha_t^2), in the dtype and on the device of t."""
        table = self._log_alpha_on(t.device)
        k = (t.to(table.dtype) * self.steps).clamp(0, self.steps)
        low = k.floor().clamp(max=self.steps - 1)
        index = low.long()
        log_alpha = torch.lerp(table[index], table[index + 1], k - low)
        return log_alpha.exp().to(t.dtype), torch.sqrt(-torch.expm1(2 * log_alpha)).to(t.dtype)

    def times(self, steps: int | None = None, spacing: Spacing = "trailing") -> Tensor:
        """The sub-sequence of the T training times that a sampler of `steps` steps visits, then 0.

        With c = T / steps and training steps numbered k = 1..T: `trailing` k = T, T - c, ...; `leading`
        k = 1 + (steps - 1) c, ..., 1 (DDIM, appendix D); `linspace` from T to 1 evenly; `quadratic` k - 1 evenly spaced
        in its square root up to 0.8 T (DDIM's choice for CIFAR-10).

        Raises:
            ValueError: when steps is outside 1..T.
        """
        total = self.steps
        steps = total if steps is None else steps
        if not 1 <= steps <= total:
            raise ValueError(f"steps: must be between 1 and the schedule's {total}, got {steps}")
        i = torch.arange(steps, dtype=torch.float64)
        match spacing:
            case "trailing":
                k = (total - i * total / steps).round()
            case "leading":
                k = 1 + (i * (total // steps)).flip(0)
            case "linspace":
                k = torch.linspace(total, 1 if steps > 1 else total, steps, dtype=torch.float64).round()
            case "quadratic":
                k = 1 + torch.linspace(0, math.sqrt(0.8 * total), steps, dtype=torch.float64).square().floor().flip(0)
                if len(k.unique()) < steps:
                    raise ValueError(f"spacing: quadratic cannot place {steps} steps on {total}; use another spacing")
            case _:
                raise ValueError(f"spacing: must be trailing, leading, linspace or quadratic, got {spacing!r}")
        return torch.cat([k, torch.zeros(1, dtype=torch.float64)]) / total

    def conditioning(self, t: Tensor) -> Tensor:
        """The index 0..T-1 of the table (as a float, so that times between grid points are told apart)."""
        return t * self.steps - 1

    def time(self, u: Tensor) -> Tensor:
        """Uniform over {1..T} / T (Ho et al. 2020, algorithm 1)."""
        return ((u * self.steps).floor() + 1).clamp(max=self.steps) / self.steps


@dataclass(frozen=True)
class LinearSchedule(DiscreteSchedule):
    """beta_1 .. beta_T linear from `beta_start` to `beta_end` (Ho et al. 2020, section 4: T=1000, 1e-4 to 0.02)."""

    beta_start: float = 1e-4
    beta_end: float = 0.02

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.beta_start <= self.beta_end < 1:
            raise ValueError(f"beta_end: need 0 < beta_start <= beta_end < 1, got {self.beta_start}, {self.beta_end}")

    @cached_property
    def betas(self) -> Tensor:
        return linear_betas(self.steps, self.beta_start, self.beta_end)


@dataclass(frozen=True)
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
    def betas(self) -> Tensor:
        t = torch.linspace(0, 1, self.steps + 1, dtype=torch.float64)
        f = torch.cos((t + self.s) / (1 + self.s) * math.pi / 2).square()
        return betas_of(f, self.max_beta)


@dataclass(frozen=True)
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
    def betas(self) -> Tensor:
        t = torch.linspace(0, 1, self.steps + 1, dtype=torch.float64)
        g = torch.sigmoid(((self.end - self.start) * t + self.start) / self.tau)
        return betas_of((g[-1] - g) / (g[-1] - g[0]), self.max_beta)


def _check_max_beta(max_beta: float) -> None:
    if not 0 < max_beta < 1:
        raise ValueError(f"max_beta: must be in (0, 1), got {max_beta}")
