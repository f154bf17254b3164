"""The weight of the error at each noise level.

Each weighting is defined for the error of x0 and divided by the target's `gain`, so that min_snr means the same whether
the network predicts eps, x0, v or a velocity. Only `Simple` weights the error of the predicted quantity itself.
snr = alpha^2 / sigma^2.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Weighting(Protocol):
    def __call__(self, alpha: Tensor, sigma: Tensor, gain: Tensor) -> Tensor:
        """The factor on the squared error of the target; gain = |d target / d x0|^2. All have the same shape."""
        ...


def snr(alpha: Tensor, sigma: Tensor) -> Tensor:
    return (alpha / sigma).square()


@dataclass(frozen=True)
class Simple:
    """1, for the error of the predicted quantity itself (Ho et al. 2020, eq. 14)."""

    def __call__(self, alpha: Tensor, sigma: Tensor, gain: Tensor) -> Tensor:
        return torch.ones_like(gain)


@dataclass(frozen=True)
class SNR:
    """snr |x0 error|^2, which is |eps error|^2 for every target (Kingma et al. 2021; Salimans & Ho 2022)."""

    def __call__(self, alpha: Tensor, sigma: Tensor, gain: Tensor) -> Tensor:
        return snr(alpha, sigma) / gain


@dataclass(frozen=True)
class MinSNR:
    """min(snr, gamma) |x0 error|^2 (Hang et al. 2023, section 3.4)."""

    gamma: float = 5.0

    def __post_init__(self) -> None:
        if self.gamma <= 0:
            raise ValueError(f"gamma: must be positive, got {self.gamma}")

    def __call__(self, alpha: Tensor, sigma: Tensor, gain: Tensor) -> Tensor:
        return snr(alpha, sigma).clamp(max=self.gamma) / gain


@dataclass(frozen=True)
class P2:
    """|eps error|^2 / (k + snr)^gamma (Choi et al. 2022, eq. 8)."""

    gamma: float = 1.0
    k: float = 1.0

    def __post_init__(self) -> None:
        if self.k <= 0:
            raise ValueError(f"k: must be positive, got {self.k}")

    def __call__(self, alpha: Tensor, sigma: Tensor, gain: Tensor) -> Tensor:
        ratio = snr(alpha, sigma)
        return ratio / (self.k + ratio) ** self.gamma / gain


@dataclass(frozen=True)
class EDMWeight:
    """(sigma^2 + s^2) / (sigma s)^2 |x0 error|^2 at noise level sigma / alpha (Karras et al. 2022, table 1).

    With the edm target of the same sigma_data, the weight on the network output F is 1 at every noise level.
    """

    sigma_data: float = 0.5

    def __post_init__(self) -> None:
        if self.sigma_data <= 0:
            raise ValueError(f"sigma_data: must be positive, got {self.sigma_data}")

    def __call__(self, alpha: Tensor, sigma: Tensor, gain: Tensor) -> Tensor:
        return (1 / self.sigma_data**2 + snr(alpha, sigma)) / gain
