"""The likelihood of pixels given the output of a decoder.

Training uses the grey levels as they are. A likelihood in bits needs the density of pixels dequantised uniformly over
their bins, so that it is comparable with other models (Theis et al. 2016, section 3.1).
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

LEVELS = 256
NEARLY_FLAT = 0.02
"""|logit| below which the series is exact in float32, and the formula would lose precision by cancellation."""


class PixelLikelihood(Protocol):
    """out (B,C,H,W) is the output of the decoder, x (B,C,H,W) is in [-1, 1]."""

    def nats(self, out: Tensor, x: Tensor) -> Tensor:
        """The quantity that training maximises, (B,) nats."""
        ...

    def log_density(self, out: Tensor, x: Tensor) -> Tensor:
        """ln p(x | z) (B,) of dequantised x, which can be half a bin outside [-1, 1]."""
        ...

    def mean(self, out: Tensor) -> Tensor:
        """The expected image."""
        ...

    def draw(self, out: Tensor, u: Tensor) -> Tensor:
        """A sample of the image, made from u (B,C,H,W) uniform in (0, 1)."""
        ...


@dataclass(frozen=True)
class Bernoulli:
    """Cross-entropy of grey levels v = (x + 1) / 2 in [0, 1], as if they were probabilities; out is the logit.

    This is not a density: its integral over v is not 1. The density of the same shape is the continuous Bernoulli
    (Loaiza-Ganem & Cunningham 2019, eq. 6-8), which is used for evaluation and, with `normalized`, for training.
    """

    normalized: bool = False

    def nats(self, out: Tensor, x: Tensor) -> Tensor:
        v = (x + 1) / 2
        each = v * out - (log_integral(out) if self.normalized else F.softplus(out))
        return each.flatten(1).sum(1)

    def log_density(self, out: Tensor, x: Tensor) -> Tensor:
        """The density of w in [0, 1], where each of the 256 bins is 1/256 wide, times |dw/dx| for the density of x."""
        w = ((x + 1) / 2 * (LEVELS - 1) + 0.5) / LEVELS
        scale = math.log((LEVELS - 1) / (2 * LEVELS))
        return (w * out - log_integral(out) + scale).flatten(1).sum(1)

    def mean(self, out: Tensor) -> Tensor:
        return 2 * (_mean(out) if self.normalized else torch.sigmoid(out)) - 1

    def draw(self, out: Tensor, u: Tensor) -> Tensor:
        """Uses the inverse distribution function of the continuous Bernoulli, ln(1 + u (e^out - 1)) / out."""
        size = out.abs().clamp(min=1e-4)
        mirrored = torch.where(out > 0, 1 - u, u)  # a positive logit is the mirror image of a negative one
        w = torch.log1p(mirrored * torch.expm1(-size)) / -size
        return 2 * torch.where(out > 0, 1 - w, w) - 1


@dataclass(frozen=True)
class Gaussian:
    """N(x; tanh(out / 2), variance) for every pixel; the variance is a number or a () tensor."""

    variance: float | Tensor

    def nats(self, out: Tensor, x: Tensor) -> Tensor:
        variance: float | Tensor = self.variance
        if isinstance(variance, Tensor):
            variance = variance.to(out)
            log: float | Tensor = torch.log(2 * math.pi * variance)
        else:  # keep a number a number: sending it to the device would wait for the device in every step
            log = math.log(2 * math.pi * variance)
        each = -0.5 * ((x - self.mean(out)).square() / variance + log)
        return each.flatten(1).sum(1)

    def log_density(self, out: Tensor, x: Tensor) -> Tensor:
        return self.nats(out, x)

    def mean(self, out: Tensor) -> Tensor:
        return torch.tanh(out / 2)

    def draw(self, out: Tensor, u: Tensor) -> Tensor:
        return self.mean(out) + torch.special.ndtri(u) * torch.as_tensor(self.variance).sqrt().to(out)


def log_integral(logit: Tensor) -> Tensor:
    """ln of the integral of e^(logit v) over v in [0, 1], ln((e^l - 1) / l): normalises the continuous Bernoulli.

    In the notation of Loaiza-Ganem & Cunningham 2019, softplus(l) - ln C(sigmoid(l)).
    """
    flat = logit.abs() < NEARLY_FLAT
    size = torch.where(flat, 1.0, logit.abs())
    formula = logit.clamp(min=0) + torch.log(-torch.expm1(-size)) - size.log()
    series = logit / 2 + logit.square() / 24
    return torch.where(flat, series, formula)


def _mean(logit: Tensor) -> Tensor:
    """E[v] = 1 / (1 - e^-l) - 1 / l, the derivative of `log_integral`."""
    flat = logit.abs() < NEARLY_FLAT
    safe = torch.where(flat, 1.0, logit)
    return torch.where(flat, 0.5 + logit / 12, -1 / torch.expm1(-safe) - 1 / safe)
