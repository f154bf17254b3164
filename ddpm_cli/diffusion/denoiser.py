"""A network together with the schedule and the target that interpret its output."""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from .schedule import Schedule, input_norm
from .target import EDM, Prediction, Target
from .zero_to_one import ZeroToOne, zero_to_one


class Denoise(Protocol):
    """(x_t (B,C,H,W), t scalar or (B,)) -> Prediction. The only interface that samplers need."""

    def __call__(self, x_t: Tensor, t: Tensor) -> Prediction: ...


class Output(NamedTuple):
    """The network's output: the target (B,C,H,W) and, with a learned variance, `variance_fraction` (B,C,H,W)."""

    target: Tensor
    variance_fraction: Tensor | None


class Denoiser(nn.Module):
    """backbone(x_t, conditioning, y) + schedule + target. The only place where alpha and sigma are broadcast.

    Args:
        backbone: a module (B,C,H,W), (B,), (B,) int64 or None -> (B,C,H,W). With a true `self_condition` its input is
            (B,2C,H,W), with `learned_variance` its output is. A true `class_conditional` means that it uses classes,
            `n_steps` that it only knows the times of a table with that many steps.
        autocast: lower precision for the backbone alone; None = full precision.
        learned_variance: the second half of the output is the position of the log-variance between beta_tilde (-1) and
            beta (1) (Nichol & Dhariwal 2021, eq. 15).
    """

    def __init__(
        self,
        backbone: nn.Module,
        schedule: Schedule,
        target: Target,
        autocast: torch.dtype | None = None,
        learned_variance: bool = False,
    ):
        super().__init__()
        self.backbone = backbone
        self.schedule = schedule
        self.target = target
        self.autocast = autocast
        self.learned_variance = learned_variance
        # optional attributes of a backbone
        self.self_condition = bool(getattr(backbone, "self_condition", False))
        self.class_conditional = bool(getattr(backbone, "class_conditional", False))
        self.known_steps: int | None = getattr(backbone, "n_steps", None)

    def alpha_sigma(self, t: Tensor, ndim: int) -> tuple[Tensor, Tensor]:
        """alpha and sigma at t (B,), shaped to multiply an `ndim`-dimensional batch."""
        alpha, sigma = self.schedule(t)
        shape = (-1, *(1,) * (ndim - 1))
        return alpha.view(shape), sigma.view(shape)

    def diffuse(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """x_t = alpha_t x0 + sigma_t eps (Ho et al. 2020, eq. 4)."""
        alpha, sigma = self.alpha_sigma(t, x0.ndim)
        return alpha * x0 + sigma * eps

    def output(self, x_t: Tensor, t: Tensor, y: Tensor | None = None, x0_estimate: Tensor | None = None) -> Output:
        """The network's output for x_t at t (B,), in the dtype of x_t.

        Args:
            x0_estimate: an earlier estimate of x0, for a network with self-conditioning; None = no estimate yet.
        """
        x = self._scaled(x_t, t)
        if self.self_condition:
            x = torch.cat([x, torch.zeros_like(x) if x0_estimate is None else x0_estimate], dim=1)
        with torch.autocast(x_t.device.type, self.autocast, enabled=self.autocast is not None):
            out = self.backbone(x, self.schedule.conditioning(t), y)
        out = out.to(x_t.dtype)
        if not self.learned_variance:
            return Output(out, None)
        mean, variance_fraction = out.chunk(2, dim=1)
        return Output(mean, (variance_fraction + 1) / 2)

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None, x0_estimate: Tensor | None = None) -> Prediction:
        """The predicted x0 and eps; t is a scalar or (B,)."""
        if t.ndim == 0:  # a sampler's t, on the host: so alpha and sigma are plain factors, and t is filled in on the
            # device, because copying a tensor from the host would make the device wait
            alpha, sigma = (value.to(x_t.dtype) for value in self.schedule(t))
            t = torch.full((len(x_t),), float(t), device=x_t.device, dtype=x_t.dtype)
        else:
            alpha, sigma = self.alpha_sigma(t, x_t.ndim)
        out = self.output(x_t, t, y, x0_estimate)
        return self.target.invert(out.target, x_t, alpha, sigma)._replace(variance_fraction=out.variance_fraction)

    def _scaled(self, x_t: Tensor, t: Tensor) -> Tensor:
        """The network's input: x_t scaled as the EDM target requires, mapped to [0, 1], or to at most unit variance."""
        if isinstance(self.target, EDM):
            return x_t * self.target.input_scale(*self.alpha_sigma(t, x_t.ndim))
        if isinstance(self.schedule, ZeroToOne):
            return zero_to_one(x_t, self.alpha_sigma(t, x_t.ndim)[0])
        if self.schedule.variance_preserving:
            return x_t
        return x_t / input_norm(*self.alpha_sigma(t, x_t.ndim))


class SelfConditioning:
    """A Denoise that feeds the previous x0 estimate back to the network (Chen et al. 2022, "Analog bits").

    Use one object per trajectory.
    """

    def __init__(self, denoise: "SelfConditionedDenoise"):
        self.denoise = denoise
        self.last: Tensor | None = None

    def __call__(self, x_t: Tensor, t: Tensor) -> Prediction:
        prediction = self.denoise(x_t, t, x0_estimate=self.last)
        self.last = prediction.x0
        return prediction


class SelfConditionedDenoise(Protocol):
    def __call__(self, x_t: Tensor, t: Tensor, *, x0_estimate: Tensor | None = None) -> Prediction: ...
