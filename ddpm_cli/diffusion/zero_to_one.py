"""Diffusion of images in [0, 1], expressed in the coordinates of [-1, 1].

With y_0 = (x_0 + 1) / 2 in [0, 1], y_t = alpha y_0 + sigma eps becomes x_t = 2 y_t - alpha = alpha x_0 + 2 sigma eps:
the same eps on a schedule with twice the noise. So all code for [-1, 1] stays the same, and only the network gets
y_t = (x_t + alpha) / 2. The posterior mean maps to itself; its variances are four times those of y.
"""

from dataclasses import dataclass

from torch import Tensor

from .schedule import Schedule
from .wrapper import ScheduleWrapper


@dataclass(frozen=True)
class ZeroToOne(ScheduleWrapper):
    """alpha and 2 sigma of a schedule.

    Samplers start from N(0, (2 sigma_1)^2). A program in [0, 1] that starts from y_1 ~ N(0, 1), like the annotated
    DDPM, has a mean of -alpha_1 in these coordinates, which is -0.006 for the linear schedule.
    """

    @property
    def unwrapped(self) -> Schedule:
        """This schedule itself, because it is another schedule and not a part of one."""
        return self

    @property
    def variance_preserving(self) -> bool:
        return False

    @property
    def steps(self) -> int:
        """T."""
        return int(getattr(self.schedule, "steps", 1000))

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma = self.schedule(t)
        return alpha, 2 * sigma

    def time_of_noise_level(self, noise: Tensor) -> Tensor:
        return self.schedule.time_of_noise_level(noise / 2)


def zero_to_one(x_t: Tensor, alpha: Tensor) -> Tensor:
    """y_t = (x_t + alpha_t) / 2."""
    return (x_t + alpha) / 2
