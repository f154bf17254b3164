"""The cross-entropy of a classifier, on noisy or clean images."""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from ..diffusion.classifier import NoisyClassifier
from ..diffusion.schedule import Schedule
from .augment import check_crop, random_resized_crop
from .base import LabelledBatch, Loss, Random
from .networks import as_classifier
from .times import Times, Uniform


@dataclass(frozen=True)
class Classify:
    """-E ln p(y | x_t) (Dhariwal & Nichol 2021, section 4.1), or -E ln p(y | x_0) when not `noisy`.

    Args:
        noisy: train on x_t and t. Such a classifier can guide at every t; a clean one guides through estimates of x0.
        times: how t is drawn.
        label_smoothing: in [0, 1).
        crop_scale: train on random crops whose area is between these fractions of the image, in (0, 1]; None = no crop.
        crop_ratio: width / height of the crops is between these.

    Raises:
        ValueError: a field is out of range; the message starts with its name.
    """

    noisy: bool = True
    times: Times = field(default_factory=Uniform)
    label_smoothing: float = 0.0
    crop_scale: tuple[float, float] | None = None
    crop_ratio: tuple[float, float] = (0.9, 1.1)

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing: must be in [0, 1), got {self.label_smoothing}")
        check_crop(self.crop_scale, self.crop_ratio)

    def wrap(self, module: nn.Module, schedule: Schedule, autocast: torch.dtype | None = None) -> NoisyClassifier:
        """Raises ValueError unless the module is a `Classifier`, which also takes the time if images are noisy."""
        return NoisyClassifier(as_classifier(module, self.noisy), schedule, autocast)

    def __call__(self, model: nn.Module, batch: LabelledBatch, rng: Random) -> Loss:
        assert isinstance(model, NoisyClassifier)
        times = self.times if model.training else Uniform()  # as in `Denoising`: validation does not update `times`
        factor, x = None, batch.x
        if model.training and self.crop_scale is not None:
            x = random_resized_crop(x, rng, self.crop_scale, self.crop_ratio)
        if self.noisy:
            t, factor = times.draw(model.schedule, rng)
            logits = model(x, rng.normal(*x.shape[1:]), t)
        else:
            logits = model.clean(x)
        smoothing = self.label_smoothing if model.training else 0.0
        each = F.cross_entropy(logits, batch.y, reduction="none", label_smoothing=smoothing)
        if self.noisy and model.training:
            times.observe(t, each.detach(), rng)
        accuracy = (logits.argmax(1) == batch.y).float().mean()
        value = (each if factor is None else each * factor).mean()
        return Loss(value, {"loss": value.detach(), "accuracy": accuracy})
