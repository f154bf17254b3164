"""A schedule seen in another way; everything that a view does not change is the schedule's own."""

from dataclasses import dataclass

from torch import Tensor

from .schedule import Schedule
from .spacing import Spacing


@dataclass(frozen=True)
class View:
    """As it is."""

    schedule: Schedule

    @property
    def whole(self) -> Schedule:
        """What it is a view of."""
        return getattr(self.schedule, "whole", self.schedule)

    @property
    def variance_preserving(self) -> bool:
        return self.schedule.variance_preserving

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return self.schedule(t)

    def times(self, steps: int | None, spacing: Spacing = "auto") -> Tensor:
        return self.schedule.times(steps, spacing)

    def conditioning(self, t: Tensor) -> Tensor:
        return self.schedule.conditioning(t)

    def time(self, u: Tensor) -> Tensor:
        return self.schedule.time(u)

    def time_of(self, noise: Tensor) -> Tensor:
        return self.schedule.time_of(noise)

    def snap(self, t: Tensor) -> Tensor:
        return self.schedule.snap(t)
