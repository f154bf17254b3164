"""The base class of schedules that modify another schedule."""

from dataclasses import dataclass

from torch import Tensor

from .schedule import Schedule
from .spacing import Spacing


@dataclass(frozen=True)
class ScheduleWrapper:
    """Delegates everything to `schedule`; subclasses override what they change."""

    schedule: Schedule

    @property
    def unwrapped(self) -> Schedule:
        """The innermost schedule."""
        return getattr(self.schedule, "unwrapped", self.schedule)

    @property
    def variance_preserving(self) -> bool:
        return self.schedule.variance_preserving

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return self.schedule(t)

    def times(self, steps: int | None, spacing: Spacing = "auto") -> Tensor:
        return self.schedule.times(steps, spacing)

    def conditioning(self, t: Tensor) -> Tensor:
        return self.schedule.conditioning(t)

    def training_time(self, u: Tensor) -> Tensor:
        return self.schedule.training_time(u)

    def time_of_noise_level(self, noise: Tensor) -> Tensor:
        return self.schedule.time_of_noise_level(noise)

    def nearest_training_time(self, t: Tensor) -> Tensor:
        return self.schedule.nearest_training_time(t)
