"""A network together with the schedule and the target that give its output a meaning."""

from typing import Protocol

import torch
from torch import Tensor, nn

from .schedule import Schedule
from .target import Prediction, Target


class Denoise(Protocol):
    """(x_t (B,C,H,W), t scalar or (B,)) -> Prediction. Samplers know nothing else of a model."""

    def __call__(self, x_t: Tensor, t: Tensor) -> Prediction: ...


class Denoiser(nn.Module):
    """backbone(x_t, conditioning, y) + schedule + target. The only place where alpha and sigma are broadcast.

    Args:
        backbone: a module (B,C,H,W), (B,), (B,) int64 or None -> (B,C,H,W).
        autocast: run the backbone, and nothing else, in this lower precision (None: as it is).
    """

    def __init__(self, backbone: nn.Module, schedule: Schedule, target: Target, autocast: torch.dtype | None = None):
        super().__init__()
        self.backbone = backbone
        self.schedule = schedule
        self.target = target
        self.autocast = autocast

    def alpha_sigma(self, t: Tensor, ndim: int) -> tuple[Tensor, Tensor]:
        """alpha and sigma at t (B,), shaped to multiply an `ndim`-dimensional batch."""
        alpha, sigma = self.schedule(t)
        shape = (-1, *(1,) * (ndim - 1))
        return alpha.view(shape), sigma.view(shape)

    def diffuse(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """x_t = alpha_t x0 + sigma_t eps (Ho et al. 2020, eq. 4)."""
        alpha, sigma = self.alpha_sigma(t, x0.ndim)
        return alpha * x0 + sigma * eps

    def output(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """What the network says about x_t at t (B,), in the dtype of x_t."""
        with torch.autocast(x_t.device.type, self.autocast, enabled=self.autocast is not None):
            out = self.backbone(x_t, self.schedule.conditioning(t), y)
        return out.to(x_t.dtype)

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Prediction:
        """x0 and eps as the network sees them; t is a scalar or (B,)."""
        if t.ndim == 0:  # filled on the device: copying a host tensor there would make the device wait
            t = torch.full((len(x_t),), float(t), device=x_t.device, dtype=x_t.dtype)
        alpha, sigma = self.alpha_sigma(t, x_t.ndim)
        return self.target.invert(self.output(x_t, t, y), x_t, alpha, sigma)
