"""The spacing of the times that a sampler visits.

`trailing`, `leading`, `linspace` and `quadratic` space the times themselves; `karras` spaces the noise level
sigma / alpha evenly in its 1/rho-th power. `auto` is the default of the schedule.
"""

import math
from typing import Literal

import torch
from torch import Tensor

Spacing = Literal["auto", "trailing", "leading", "linspace", "quadratic", "karras"]


def table_times(total: int, steps: int, spacing: Spacing) -> Tensor:
    """Times of a table of `total` training steps, k = 1..T, as (steps + 1,) float64, decreasing, the last 0.

    With c = T / steps: `trailing` k = T, T - c, ... (Lin et al. 2023, table 2); `leading` k = 1 + (steps - 1) c, ..., 1
    (DDIM, appendix D); `linspace` from T to 1 evenly; `quadratic` k - 1 evenly spaced in its square root up to 0.8 T
    (DDIM's choice for CIFAR-10).

    Raises:
        ValueError: steps is outside 1..T, or the spacing is unknown.
    """
    if not 1 <= steps <= total:
        raise ValueError(f"steps: must be between 1 and the schedule's {total}, got {steps}")
    i = torch.arange(steps, dtype=torch.float64)
    match spacing:
        case "trailing" | "auto":
            k = (total - i * total / steps).round()
        case "leading":
            k = 1 + (i * (total // steps)).flip(0)
        case "linspace":
            k = torch.linspace(total, 1 if steps > 1 else total, steps, dtype=torch.float64).round()
        case "quadratic":
            k = 1 + torch.linspace(0, math.sqrt(0.8 * total), steps, dtype=torch.float64).square().floor().flip(0)
            if len(k.unique()) < steps:
                raise ValueError(
                    f"spacing: quadratic cannot place {steps} different steps on {total}; use another spacing"
                )
        case _:
            raise ValueError(f"spacing: must be trailing, leading, linspace, quadratic or karras, got {spacing!r}")
    return with_zero(k / total)


def karras_noise(low: float, high: float, steps: int, rho: float = 7.0) -> Tensor:
    """sigma_i = (high^(1/rho) + i/(N-1) (low^(1/rho) - high^(1/rho)))^rho, i = 0..N-1 (Karras et al. 2022, eq. 5).

    Raises:
        ValueError: `high` is infinite, as for a schedule that ends in pure noise, or steps is below 1.
    """
    if not math.isfinite(high):
        raise ValueError("spacing: karras needs some signal at t = 1, which this schedule does not have; use trailing")
    if steps < 1:
        raise ValueError(f"steps: must be at least 1, got {steps}")
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64) if steps > 1 else torch.zeros(1, dtype=torch.float64)
    return (high ** (1 / rho) + ramp * (low ** (1 / rho) - high ** (1 / rho))) ** rho


def with_zero(times: Tensor) -> Tensor:
    """`times` followed by 0, the clean image."""
    return torch.cat([times, torch.zeros(1, dtype=torch.float64)])
