"""Maximum likelihood of a Gaussian mixture by expectation-maximisation."""

import math
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from ..diffusion.likelihood import HALF_BIN
from ..diffusion.ode import bits_per_dimension
from ..diffusion.schedule import Schedule
from ..models.gmm import GMM
from .base import LabelledBatch, Loss, Random
from .networks import as_mixture


class Exact(Protocol):
    """A model with an exact log-density."""

    def log_prob(self, x: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class EM:
    """-E ln p(x) of dequantised images, minimised by EM instead of gradients (Dempster et al. 1977).

    Args:
        tol: EM stops when an iteration gains less than this many nats per image.
        floor: added to the variances after each M step, so that components do not shrink onto a few images. With it, an
            iteration can lose a little; EM then stops before that iteration.
        images: maximum number of training images, drawn with the seed; None = all.

    Raises:
        ValueError: a field is out of range; the message starts with its name.
    """

    tol: float = 0.001
    floor: float = 0.0
    images: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("tol", self.tol), ("floor", self.floor)):
            if not 0 <= value < math.inf:
                raise ValueError(f"{name}: must be at least 0, got {value}")
        if self.images is not None and self.images < 1:
            raise ValueError(f"images: must be at least 1 or null, got {self.images}")

    def wrap(self, module: nn.Module, schedule: Schedule | None = None, autocast: torch.dtype | None = None) -> GMM:
        """The module itself. Raises ValueError, naming the objective, unless EM can fit it."""
        return as_mixture(module)

    def __call__(self, model: nn.Module, batch: LabelledBatch, rng: Random) -> Loss:
        """The loss on images x in [-1, 1], dequantised uniformly over their bins."""
        x = batch.x + (2 * rng.uniform(*batch.x.shape[1:]) - 1) * HALF_BIN
        log_p = cast(Exact, model).log_prob(x).mean()
        bits = bits_per_dimension(log_p, batch.x[0].numel())
        return Loss(-log_p, {"loss": -log_p.detach(), "bits_per_dim": bits.detach()})
