"""The time in a caption: "t = 637 / 1000", "t = 0.64" or "sigma = 1.23"."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class AlphaSigma(Protocol):
    """The part of a schedule that is used here: t (*) in [0, 1] -> alpha (*), sigma (*)."""

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]: ...


class TimeLabel(Protocol):
    """A label made of `name`, a value of at most `places` characters, and `after`."""

    @property
    def name(self) -> str: ...

    @property
    def after(self) -> str: ...

    @property
    def places(self) -> int: ...

    @property
    def grid(self) -> int:
        """The number of equal parts of [0, 1] whose ends are the times of an animation's frames."""
        ...

    def value(self, t: float) -> str: ...


@dataclass(frozen=True)
class StepLabel:
    """The label for a schedule table of `total` steps."""

    total: int

    @property
    def name(self) -> str:
        return "t ="

    @property
    def after(self) -> str:
        return f"/ {self.total}"

    @property
    def places(self) -> int:
        return len(str(self.total))

    @property
    def grid(self) -> int:
        return self.total

    def value(self, t: float) -> str:
        return str(round(t * self.total))


@dataclass(frozen=True)
class FractionLabel:
    """The label for a schedule without steps."""

    name: str = "t ="
    after: str = ""
    places: int = 4
    grid: int = 1000

    def value(self, t: float) -> str:
        return f"{t:.2f}"


@dataclass(frozen=True)
class NoiseLevelLabel:
    """The label for a schedule whose time is the noise level."""

    schedule: AlphaSigma
    name: str = "sigma ="
    after: str = ""
    places: int = 5
    grid: int = 20_000  # fine, because the picture only changes in the lowest hundredth of [0, 1]

    def value(self, t: float) -> str:
        _, sigma = self.schedule(torch.tensor(t, dtype=torch.float64))
        level = float(sigma)
        return f"{level:.1f}" if level >= 10 else f"{level:.2f}" if level >= 0.1 else f"{level:.3f}"


def explodes(schedule: AlphaSigma) -> bool:
    """Whether sigma grows beyond 2, the range of the images from black to white."""
    return float(schedule(torch.ones((), dtype=torch.float64))[1]) > 2


def time_label_of(schedule: AlphaSigma, steps: int | None = None) -> TimeLabel:
    """The label for a schedule; `steps` is the length of its table, if it has one."""
    return StepLabel(steps) if steps else NoiseLevelLabel(schedule) if explodes(schedule) else FractionLabel()


def as_time_label(total: int | TimeLabel) -> TimeLabel:
    return StepLabel(total) if isinstance(total, int) else total


def visible(x: Tensor, t: float, schedule: AlphaSigma) -> Tensor:
    """x_t / max(1, sqrt(alpha^2 + sigma^2)): otherwise variance-exploding noise would be clipped to black and white."""
    alpha, sigma = schedule(torch.tensor(t, dtype=torch.float64))
    return x / max(1.0, float((alpha.square() + sigma.square()).sqrt()))
