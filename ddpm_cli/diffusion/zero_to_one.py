"""Diffusion of images in [0, 1], told in the coordinates of [-1, 1].

With y_0 = (x_0 + 1) / 2 in [0, 1], y_t = alpha y_0 + sigma eps becomes x_t = 2 y_t - alpha = alpha x_0 + 2 sigma eps:
the same eps on a schedule with twice the noise. So everything that knows [-1, 1] stays as it is, and only the network
sees y_t = (x_t + alpha) / 2. The posterior's mean maps to itself, its variances are four times those of y.
"""

from dataclasses import dataclass

from torch import Tensor

from .schedule import Schedule
from .wrapper import ScheduleWrapper


@dataclass(frozen=True)
class ZeroToOne(ScheduleWrapper):
    """alpha and 2 sigma of a schedule.

    Samplers start at N(0, (2 sigma_1)^2). A program in [0, 1] that starts at y_1 ~ N(0, 1), as the annotated DDPM does,
    starts at a mean of -alpha_1 here, 0.006 of the linear schedule.
    """

    @property
    def unwrapped(self) -> Schedule:
        """Itself: it is no part of a way but another one."""
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
