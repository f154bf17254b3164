"""Guidance: turns a model into a Denoise that steers towards a class. Samplers need no support for it.

Since eps = -sigma grad log p(x_t), the gradient g of another log-probability is added as eps - sigma g; x0 follows.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from .classifier import of_clean
from .denoiser import Denoiser, SelfConditionedDenoise
from .schedule import input_norm
from .target import Prediction

FAINT = 1e-3
"""alpha / sigma below which x_t has no information about x0, as at t = 1 of cosine, flow or zero-SNR schedules."""


class Guidance(Protocol):
    def __call__(self, model: Denoiser, labels: Tensor | None) -> SelfConditionedDenoise:
        """The model conditioned on labels (B,) int64."""
        ...


class Classifier(Protocol):
    """(x (B,C,H,W), c (B,)) -> logits (B, classes). c is the conditioning of a denoiser at t, 0 without noise."""

    def __call__(self, x: Tensor, c: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Unguided:
    """The conditional model without guidance."""

    def __call__(self, model: Denoiser, labels: Tensor | None) -> SelfConditionedDenoise:
        return partial(model, y=labels)


@dataclass(frozen=True)
class ClassifierFree:
    """prediction = unconditional + scale (conditional - unconditional) (Ho & Salimans 2022, eq. 6, w = scale - 1).

    Both branches are one call of the network on a batch of twice the size.

    Args:
        scale: 0 = unconditional, 1 = no guidance, above 1 = more typical and less diverse images.
        interval: [low, high] of t in which guidance is active; outside, the conditional model is used alone
            (Kynkaanniemi et al. 2024).

    Raises:
        ValueError: the scale is not finite, or the interval is not within [0, 1].
    """

    scale: float = 3.0
    interval: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        check_scale(self.scale)
        check_interval(self.interval)

    def __call__(self, model: Denoiser, labels: Tensor | None) -> SelfConditionedDenoise:
        if labels is None:
            raise ValueError("guidance: cfg needs a class-conditional model; use guidance=none")
        return partial(self._predict, model, labels)

    def _predict(
        self, model: Denoiser, labels: Tensor, x_t: Tensor, t: Tensor, *, x0_estimate: Tensor | None = None
    ) -> Prediction:
        if self.scale == 1 or not _acts(self.interval, t):
            return model(x_t, t, labels, x0_estimate)
        if self.scale == 0:
            return model(x_t, t, torch.full_like(labels, -1), x0_estimate)
        both = torch.cat([labels, torch.full_like(labels, -1)])
        estimates = None if x0_estimate is None else torch.cat([x0_estimate, x0_estimate])
        twice = model(torch.cat([x_t, x_t]), _twice(t), both, estimates)
        (x0, x0_free), (eps, eps_free) = twice.x0.chunk(2), twice.eps.chunk(2)
        fraction = None if twice.variance_fraction is None else twice.variance_fraction.chunk(2)[0]
        return Prediction(x0_free + self.scale * (x0 - x0_free), eps_free + self.scale * (eps - eps_free), fraction)


@dataclass(frozen=True)
class ByClassifier:
    """eps - scale sigma grad log p(y | x_t) (Dhariwal & Nichol 2021, algorithm 2).

    Where alpha < `FAINT` sigma there is no guidance: the exact gradient vanishes with alpha, so that of a trained
    classifier is only its error, and x0 would be that error divided by alpha.

    Args:
        classifier: the classifier's module, on the model's device.
        reads: `noisy` for a classifier trained on x_t with t: the gradient is as exact as the classifier. `clean` for
            one trained on images without noise: it gets the x0 estimate and is differentiated through the denoiser,
            which uses E[x0 | x_t] in place of x0 (Bansal et al. 2023, "universal guidance"; Chung et al. 2023).
        scale: 0 = no guidance, 1 = Bayes' rule, above 1 = more typical images.
        interval: [low, high] of t in which guidance is active.

    Raises:
        ValueError: the scale is not finite, `reads` is unknown, or the interval is not within [0, 1].
    """

    classifier: Classifier
    reads: Literal["noisy", "clean"] = "noisy"
    scale: float = 1.0
    interval: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        check_scale(self.scale)
        check_interval(self.interval)
        if self.reads not in ("noisy", "clean"):
            raise ValueError(f"reads: must be noisy or clean, got {self.reads!r}")

    def __call__(self, model: Denoiser, labels: Tensor | None) -> SelfConditionedDenoise:
        if labels is None:
            raise ValueError("label: must be set for classifier guidance; set label=CLASS or labels=[...]")
        return partial(self._predict, model, labels)

    def _predict(
        self, model: Denoiser, labels: Tensor, x_t: Tensor, t: Tensor, *, x0_estimate: Tensor | None = None
    ) -> Prediction:
        if not self.scale or not _acts(self.interval, t):
            return model(x_t, t, labels, x0_estimate)
        with torch.inference_mode(False), torch.enable_grad():
            # cloned, because autograd cannot use tensors made in inference mode
            x, x0_estimate = x_t.detach().clone().requires_grad_(), None if x0_estimate is None else x0_estimate.clone()
            times = t.clone().to(x_t).expand(len(x_t))
            alpha, sigma = model.alpha_sigma(times, x_t.ndim)
            prediction = model(x, t, labels, x0_estimate)
            if self.reads == "noisy":
                scaled = x if model.schedule.variance_preserving else x / input_norm(alpha, sigma)
                logits = self.classifier(scaled, model.schedule.conditioning(times))
            else:
                logits = of_clean(self.classifier, prediction.x0.clamp(-1, 1))
            log_p = F.log_softmax(logits.float(), 1).gather(1, labels[:, None]).sum()
            (gradient,) = torch.autograd.grad(log_p, x)
        fraction = None if prediction.variance_fraction is None else prediction.variance_fraction.detach()
        gradient = torch.where(alpha < FAINT * sigma, 0.0, gradient)
        eps = prediction.eps.detach() - self.scale * sigma * gradient
        # x0 = (x_t - sigma eps) / alpha, written as an update so that it stays finite
        x0 = prediction.x0.detach() + self.scale * sigma.square() * gradient / alpha.clamp(min=1e-6)
        return Prediction(x0, eps, fraction)


def check_scale(scale: float) -> None:
    """Raises ValueError unless the scale is finite."""
    if not math.isfinite(scale):
        raise ValueError(f"scale: must be a finite number, got {scale}")


def check_interval(interval: tuple[float, float]) -> None:
    """Raises ValueError unless it is an interval within [0, 1]."""
    low, high = interval
    if not 0 <= low <= high <= 1:
        raise ValueError(f"interval: must be [low, high] with 0 <= low <= high <= 1, got {list(interval)}")


def _acts(interval: tuple[float, float], t: Tensor) -> bool:
    """Whether guidance is active at t, a scalar on the host as in samplers; for times (B,) it always is."""
    return t.ndim > 0 or interval[0] <= float(t) <= interval[1]


def _twice(t: Tensor) -> Tensor:
    return t if t.ndim == 0 else torch.cat([t, t])
