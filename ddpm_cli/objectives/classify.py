"""Cross-entropy of a classifier, on noisy images or clean ones."""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from ..diffusion.classifier import NoisyClassifier
from ..diffusion.schedule import Schedule
from .base import Loss, Pair, Random
from .times import Times, Uniform


@dataclass(frozen=True)
class Classify:
    """-E ln p(y | x_t) (Dhariwal & Nichol 2021, section 4.1), or -E ln p(y | x_0) when not `noisy`.

    Args:
        noisy: show x_t and t. Such a classifier guides at every t; a clean one is applied to estimates of x0.
        times: which t are drawn.
        label_smoothing: in [0, 1).

    Raises:
        ValueError: a field out of range, named first.
    """

    noisy: bool = True
    times: Times = field(default_factory=Uniform)
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing: must be in [0, 1), got {self.label_smoothing}")

    def wrap(self, module: nn.Module, schedule: Schedule, autocast: torch.dtype | None = None) -> NoisyClassifier:
        """Raises ValueError, naming the objective, unless the module says that it `classifies`."""
        if not getattr(module, "classifies", False):
            raise ValueError("objective: classify needs a classifier; use model=unet_classifier")
        return NoisyClassifier(module, schedule, autocast)

    def __call__(self, model: nn.Module, batch: Pair, rng: Random) -> Loss:
        assert isinstance(model, NoisyClassifier)
        times = self.times if model.training else Uniform()  # as in `Denoising`: validation remembers nothing
        factor = None
        if self.noisy:
            t, factor = times.draw(model.schedule, rng)
            logits = model(batch.x, rng.normal(*batch.x.shape[1:]), t)
        else:
            logits = model.clean(batch.x)
        smoothing = self.label_smoothing if model.training else 0.0
        each = F.cross_entropy(logits, batch.y, reduction="none", label_smoothing=smoothing)
        if self.noisy and model.training:
            times.observe(t, each.detach(), rng)
        right = (logits.argmax(1) == batch.y).float().mean()
        value = (each if factor is None else each * factor).mean()
        return Loss(value, {"loss": value.detach(), "accuracy": right})
