"""Cross-entropy of a classifier, on noisy images or clean ones."""

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
        noisy: show x_t and t. Such a classifier guides at every t; a clean one is applied to estimates of x0.
        times: which t are drawn.
        label_smoothing: in [0, 1).
        crop_scale: show a part of each training image in place of the whole, with an area between these, in (0, 1];
            None = the whole.
        crop_ratio: width of that part over its height, between these.

    Raises:
        ValueError: a field out of range, named first.
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
        """Raises ValueError unless the module is a `Classifier`, which looks at the time where it needs to."""
        return NoisyClassifier(as_classifier(module, self.noisy), schedule, autocast)

    def __call__(self, model: nn.Module, batch: LabelledBatch, rng: Random) -> Loss:
        assert isinstance(model, NoisyClassifier)
        times = self.times if model.training else Uniform()  # as in `Denoising`: validation remembers nothing
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
        right = (logits.argmax(1) == batch.y).float().mean()
        value = (each if factor is None else each * factor).mean()
        return Loss(value, {"loss": value.detach(), "accuracy": right})
