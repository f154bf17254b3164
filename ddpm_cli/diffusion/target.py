"""What the network regresses. With x_t = alpha x0 + sigma eps, each target is a linear function of (x0, eps).

`compute` gives the regression target, `invert` turns the network's output into both x0 and eps, which always satisfy
x_t = alpha x0 + sigma eps, so that a sampler can use either.
Shapes: images (B,C,H,W); alpha and sigma broadcast against them (0-dim or (B,1,1,1)).
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Prediction(NamedTuple):
    """The x0 and eps that a network output means, with x_t = alpha x0 + sigma eps.

    `variance_fraction`, (B,C,H,W) with a learned variance, interpolates between its bounds: 0 = beta_tilde, 1 = beta.
    """

    x0: Tensor
    eps: Tensor
    variance_fraction: Tensor | None = None

    def clipped(self, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> "Prediction":
        """x0 clamped to [-1, 1] and eps changed accordingly, so that x_t = alpha x0 + sigma eps holds (sigma > 0)."""
        return self.with_x0(self.x0.clamp(-1, 1), x_t, alpha, sigma)

    def thresholded(self, quantile: float, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> "Prediction":
        """Dynamic thresholding (Saharia et al. 2022, 2.3): clip to s = max(1, quantile of |x0|), divide by s."""
        size = self.x0.abs().flatten(1).float().quantile(quantile, dim=1).clamp(min=1)
        size = size.to(self.x0.dtype).view(-1, *(1,) * (self.x0.ndim - 1))
        return self.with_x0(self.x0.clamp(-size, size) / size, x_t, alpha, sigma)

    def with_x0(self, x0: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> "Prediction":
        """Another x0 for the same x_t; eps = (x_t - alpha x0) / sigma follows (sigma > 0)."""
        return self._replace(x0=x0, eps=(x_t - alpha * x0) / sigma)


class Target(Protocol):
    """A regression target of the network and its inverse."""

    @property
    def reads_pure_noise(self) -> bool:
        """Whether `invert` is finite where alpha = 0."""
        ...

    def compute(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor: ...

    def invert(self, out: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Prediction: ...

    def gain(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """|d target / d x0|^2 at a fixed x_t: an error e in x0 is an error sqrt(gain) e in the target."""
        ...


@dataclass(frozen=True)
class Epsilon:
    """The noise eps (Ho et al. 2020, eq. 14). alpha must be positive."""

    @property
    def reads_pure_noise(self) -> bool:
        return False

    def compute(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return eps

    def invert(self, out: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Prediction:
        return Prediction((x_t - sigma * out) / alpha, out)

    def gain(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return (alpha / sigma).square()


@dataclass(frozen=True)
class X0:
    """The clean image (Ho et al. 2020, section 3.2). sigma must be positive."""

    @property
    def reads_pure_noise(self) -> bool:
        return True

    def compute(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return x0

    def invert(self, out: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Prediction:
        return Prediction(out, (x_t - alpha * out) / sigma)

    def gain(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return torch.ones_like(alpha)


@dataclass(frozen=True)
class V:
    """v = alpha eps - sigma x0 (Salimans & Ho 2022, section 4), where alpha^2 + sigma^2 = 1."""

    @property
    def reads_pure_noise(self) -> bool:
        return True

    def compute(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return alpha * eps - sigma * x0

    def invert(self, out: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Prediction:
        return Prediction(alpha * x_t - sigma * out, sigma * x_t + alpha * out)

    def gain(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return 1 / sigma.square()  # v = (alpha x_t - x0) / sigma


@dataclass(frozen=True)
class Velocity:
    """u = eps - x0, the velocity of the straight path from image to noise (Liu et al. 2022; Lipman et al. 2022)."""

    @property
    def reads_pure_noise(self) -> bool:
        return True

    def compute(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return eps - x0

    def invert(self, out: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Prediction:
        whole = alpha + sigma  # 1 for the flow schedule
        return Prediction((x_t - sigma * out) / whole, (x_t + alpha * out) / whole)

    def gain(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return ((alpha + sigma) / sigma).square()


@dataclass(frozen=True)
class EDM:
    """The preconditioning of Karras et al. 2022, table 1, written for any alpha (theirs is alpha = 1).

    x0 = c_skip x_t + c_out F with c_skip = alpha s^2 / n^2, c_out = sigma s / n, where s = sigma_data and
    n^2 = sigma^2 + alpha^2 s^2 is the variance of x_t; the network gets c_in x_t = x_t / n and regresses F.

    Args:
        sigma_data: standard deviation of the images in [-1, 1].
    """

    sigma_data: float = 0.5

    def __post_init__(self) -> None:
        if self.sigma_data <= 0:
            raise ValueError(f"sigma_data: must be positive, got {self.sigma_data}")

    @property
    def reads_pure_noise(self) -> bool:
        return True

    def _norm(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return (sigma.square() + (alpha * self.sigma_data).square()).sqrt()

    def input_scale(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """c_in, the factor on the network's input."""
        return 1 / self._norm(alpha, sigma)

    def compute(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        s, n = self.sigma_data, self._norm(alpha, sigma)
        return (sigma * x0 - alpha * s**2 * eps) / (n * s)  # (x0 - c_skip x_t) / c_out without the division by sigma

    def invert(self, out: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Prediction:
        s, n = self.sigma_data, self._norm(alpha, sigma)
        return Prediction(
            alpha * s**2 / n.square() * x_t + sigma * s / n * out, sigma / n.square() * x_t - alpha * s / n * out
        )

    def gain(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return (self._norm(alpha, sigma) / (sigma * self.sigma_data)).square()
