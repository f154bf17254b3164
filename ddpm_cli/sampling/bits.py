"""Bits per dimension of real images under a model: what is measured, whatever the model is."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

from torch import Tensor

from ..data.images import Images
from ..progress import Progress

ODE_SEEDS = 2**40
"""Between the seeds of the bound's noise and those of the ODE's: more than there are images."""


@dataclass(frozen=True, kw_only=True)
class BitsOptions:
    """See conf/eval.yaml. Raises ValueError for a number out of range, named first."""

    steps: int | None = None
    terms: int | None = None
    variance: Literal["auto", "beta", "beta_tilde", "learned"] = "auto"
    clip: bool = True
    ode_steps: int = 50
    probes: int = 1
    importance_samples: int = 50

    def __post_init__(self) -> None:
        for name, value in (("ode_steps", self.ode_steps), ("probes", self.probes)):
            if value < 0:
                raise ValueError(f"{name}: must be at least 0, got {value}")
        if self.importance_samples < 1:
            raise ValueError(f"importance_samples: must be at least 1, got {self.importance_samples}")


class MeanError(NamedTuple):
    """A mean over images and its standard error (None for a single image)."""

    mean: float
    error: float | None

    @classmethod
    def of(cls, values: Tensor) -> "MeanError":
        n = len(values)
        return cls(float(values.mean()), float(values.std() / math.sqrt(n)) if n > 1 else None)


class Bits(NamedTuple):
    """Bits per dimension by name, see `DiffusionBits` and `LatentBits`.

    times, each: t of every term of the bound that was looked at, and its mean over the images that looked; empty for a
    model without time. protocol: what the values depend on.
    """

    values: dict[str, MeanError]
    times: Tensor
    each: Tensor
    protocol: Mapping[str, Any]


class BitsEvaluator(Protocol):
    """How a model is evaluated, checked before images are loaded. The k-th image meets noise of its own seed + k."""

    def __call__(self, images: Images, batch_size: int, progress: Progress) -> Bits: ...
