"""A classifier of noisy images, p(y | x_t), whose gradient can guide sampling."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .schedule import Schedule, input_norm


class NoisyClassifier(nn.Module):
    """backbone(x_t, conditioning) + schedule; the time is encoded as for a denoiser.

    Args:
        backbone: a module (B,C,H,W), (B,) -> logits (B, classes), where c = 0 means no noise.
        autocast: lower precision for the backbone; None = full precision.
    """

    def __init__(self, backbone: nn.Module, schedule: Schedule, autocast: torch.dtype | None = None):
        super().__init__()
        self.backbone = backbone
        self.schedule = schedule
        self.autocast = autocast

    def forward(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """Logits (B, classes), float32, of alpha x0 + sigma eps at t (B,), scaled to unit variance if necessary."""
        alpha, sigma = (v.view(-1, *(1,) * (x0.ndim - 1)) for v in self.schedule(t))
        x = alpha * x0 + sigma * eps
        if not self.schedule.variance_preserving:
            x = x / input_norm(alpha, sigma)
        return self.logits(x, self.schedule.conditioning(t))

    def clean(self, x0: Tensor) -> Tensor:
        """Logits (B, classes), float32, of images without noise."""
        with self._autocast(x0):
            return of_clean(self.backbone, x0).float()

    def logits(self, x: Tensor, c: Tensor) -> Tensor:
        """Logits (B, classes), float32, of the scaled input x and its conditioning c (B,)."""
        with self._autocast(x):
            out: Tensor = self.backbone(x, c)
        return out.float()

    def _autocast(self, x: Tensor) -> torch.autocast:
        return torch.autocast(x.device.type, self.autocast, enabled=self.autocast is not None)


def of_clean(classifier: Callable[..., Tensor], x0: Tensor) -> Tensor:
    """Logits (B, classes) of images (B,C,H,W) without noise, for which c is 0."""
    return classifier(x0, torch.zeros(len(x0), device=x0.device))
