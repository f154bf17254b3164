"""What one training step minimises, as a protocol that DDPM, VAE and classifier can share."""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from ..diffusion.schedule import Schedule


class Loss(NamedTuple):
    """`value` is differentiated; `logs` stay on the device until they are written."""

    value: Tensor
    logs: dict[str, Tensor]


class Random(Protocol):
    """Random numbers of one training step: functions of (seed, step), one row per image.

    `total` images make the whole batch, of which this call sees a part; `first` tells whether it is the first part.
    """

    @property
    def total(self) -> int: ...

    @property
    def first(self) -> bool: ...

    def index(self) -> Tensor:
        """(B,) the place of each image in the whole batch, 0..total-1."""
        ...

    def coin(self) -> bool:
        """Heads or tails, the same for every image of the step."""
        ...

    def uniform(self, *shape: int) -> Tensor:
        """(B, *shape) in [0, 1)."""
        ...

    def normal(self, *shape: int) -> Tensor:
        """(B, *shape) standard normal."""
        ...


class LabelledBatch(Protocol):
    """A batch: x (B,C,H,W) in [-1, 1] and y (B,) int64."""

    @property
    def x(self) -> Tensor: ...

    @property
    def y(self) -> Tensor: ...


class Objective(Protocol):
    def wrap(self, module: nn.Module, schedule: Schedule, autocast: torch.dtype | None = None) -> nn.Module:
        """What `__call__` takes for a model: the network with what gives it a meaning."""
        ...

    def __call__(self, model: nn.Module, batch: LabelledBatch, rng: Random) -> Loss: ...
