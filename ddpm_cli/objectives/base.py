"""The protocol of an objective, the loss that a training step minimises, for every kind of model."""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from ..diffusion.schedule import Schedule


class Loss(NamedTuple):
    """`value` is differentiated; `logs` are for the log and stay on the device until they are written."""

    value: Tensor
    logs: dict[str, Tensor]


class Random(Protocol):
    """The random numbers of one training step: functions of (seed, step), with one row per image.

    The whole batch has `total` images, of which this call gets a part; `first` is True for the first part.
    """

    @property
    def total(self) -> int: ...

    @property
    def first(self) -> bool: ...

    def index(self) -> Tensor:
        """(B,) the index of each image in the whole batch, 0..total-1."""
        ...

    def coin(self) -> bool:
        """True or False with equal probability, the same for every image of the step."""
        ...

    def uniform(self, *shape: int) -> Tensor:
        """(B, *shape) in [0, 1)."""
        ...

    def normal(self, *shape: int) -> Tensor:
        """(B, *shape) from a standard normal distribution."""
        ...


class LabelledBatch(Protocol):
    """A batch: x (B,C,H,W) in [-1, 1] and y (B,) int64."""

    @property
    def x(self) -> Tensor: ...

    @property
    def y(self) -> Tensor: ...


class Objective(Protocol):
    """`wrap` turns a network into the model that the objective trains; a call computes the loss of a batch."""

    def wrap(self, module: nn.Module, schedule: Schedule, autocast: torch.dtype | None = None) -> nn.Module:
        """The model that `__call__` expects: the network with the schedule and so on that interpret its output."""
        ...

    def __call__(self, model: nn.Module, batch: LabelledBatch, rng: Random) -> Loss: ...
