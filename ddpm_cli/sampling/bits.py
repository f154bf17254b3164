"""Bits per dimension of real images under a model: the parts shared by all families."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

from torch import Tensor

from ..build import check_fields
from ..data.images import Images
from ..progress import Progress
from .kept import KeptValues

ODE_SEEDS = 2**40
"""Offset between the seeds of the bound's noise and those of the ODE's; larger than any number of images."""


@dataclass(frozen=True, kw_only=True)
class BitsOptions:
    """The keys `bpd.*` of conf/eval.yaml. Raises ValueError, which names the key, for a number out of range;
    ConfigError for a wrong type.
    """

    steps: int | None = None
    terms: int | None = None
    variance: Literal["auto", "beta", "beta_tilde", "learned"] = "auto"
    clip: bool = True
    ode_steps: int = 50
    probes: int = 1
    importance_samples: int = 50

    def __post_init__(self) -> None:
        check_fields(self)
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

    times, each: t of every term of the bound that was evaluated, and its mean over the images it was evaluated for;
    empty for a model without time. protocol: the settings that the values depend on.
    """

    values: dict[str, MeanError]
    times: Tensor
    each: Tensor
    protocol: Mapping[str, Any]


class BitsEvaluator(Protocol):
    """Measures bits per dimension; its options are checked before images are loaded. Image k uses noise of seed + k."""

    def __call__(self, images: Images, batch_size: int, progress: Progress, kept: KeptValues | None = None) -> Bits:
        """kept: values that an earlier call has measured."""
        ...
