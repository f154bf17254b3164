"""What one training step minimises, as a protocol that DDPM, VAE and classifier can share."""

from typing import NamedTuple, Protocol

from torch import Tensor, nn


class Loss(NamedTuple):
    """`value` is differentiated; `logs` stay on the device until they are written."""

    value: Tensor
    logs: dict[str, Tensor]


class Random(Protocol):
    """Random numbers of one training step: functions of (seed, step), one row per image."""

    def uniform(self, *shape: int) -> Tensor:
        """(B, *shape) in [0, 1)."""
        ...

    def normal(self, *shape: int) -> Tensor:
        """(B, *shape) standard normal."""
        ...


class Pair(Protocol):
    """A batch: x (B,C,H,W) in [-1, 1] and y (B,) int64."""

    @property
    def x(self) -> Tensor: ...

    @property
    def y(self) -> Tensor: ...


class Objective(Protocol):
    def __call__(self, model: nn.Module, batch: Pair, rng: Random) -> Loss: ...
