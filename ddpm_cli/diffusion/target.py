"""What the network regresses. With x_t = alpha x0 + sigma eps, each target is a linear function of (x0, eps).

`of` is the regression target, `invert` reads the network's output back as both x0 and eps, which always satisfy
x_t = alpha x0 + sigma eps; so a sampler can use either and never re-derives one from the other.
Shapes: images (B,C,H,W); alpha and sigma broadcast against them (0-dim or (B,1,1,1)).
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor


class Prediction(NamedTuple):
    """Both readings of one network output: x_t = alpha x0 + sigma eps."""

    x0: Tensor
    eps: Tensor

    def clipped(self, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> "Prediction":
        """x0 limited to [-1, 1] and eps changed with it, so that the law above still holds (sigma > 0)."""
        x0 = self.x0.clamp(-1, 1)
        return Prediction(x0, (x_t - alpha * x0) / sigma)


class Target(Protocol):
    def of(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor: ...

    def invert(self, out: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Prediction: ...


@dataclass(frozen=True)
class Epsilon:
    """The noise itself (Ho et al. 2020, eq. 14)."""

    def of(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return eps

    def invert(self, out: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Prediction:
        return Prediction((x_t - sigma * out) / alpha, out)


@dataclass(frozen=True)
class X0:
    """The clean image (Ho et al. 2020, section 3.2). sigma must be positive."""

    def of(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return x0

    def invert(self, out: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Prediction:
        return Prediction(out, (x_t - alpha * out) / sigma)


@dataclass(frozen=True)
class V:
    """v = alpha eps - sigma x0 (Salimans & Ho 2022, section 4); its inverse divides by alpha^2 + sigma^2."""

    def of(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return alpha * eps - sigma * x0

    def invert(self, out: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Prediction:
        norm = alpha * alpha + sigma * sigma  # 1 for a variance-preserving schedule
        return Prediction((alpha * x_t - sigma * out) / norm, (sigma * x_t + alpha * out) / norm)
