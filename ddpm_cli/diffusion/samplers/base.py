"""What all samplers share. A sampler is a frozen value; calling it gives a generator of frames.

Frame i holds x_t before step i together with the x0 that the network reads in it; the last frame is the sample
(t = 0, x = x0). So `sample` takes the last frame, `gif` draws them all and a progress bar counts them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor

from ..denoiser import Denoise
from ..schedule import Schedule
from ..spacing import Spacing
from ..target import Prediction

Noise = Callable[[Tensor], Tensor]  # like (B,C,H,W) -> standard normal of the same shape, dtype and device


class Frame(NamedTuple):
    t: float
    x: Tensor
    x0: Tensor


class Sampler(Protocol):
    def __call__(self, denoise: Denoise, schedule: Schedule, x: Tensor, noise: Noise) -> Iterator[Frame]:
        """x (B,C,H,W): x_t at the first of `schedule.times`. Yields (length + 1) frames."""
        ...

    def length(self, schedule: Schedule) -> int:
        """How many steps there are. One that calls the network more often says so in `calls`."""
        ...


@dataclass(frozen=True, kw_only=True)
class Stepper:
    """What samplers that walk down `schedule.times` share. Subclasses add `__call__`.

    Args:
        steps: how many; None = as many as the schedule has.
        clip: limit the predicted x0 to [-1, 1] at every step (eps changes with it).
        threshold: in place of `clip`, the quantile of dynamic thresholding, in (0, 1] (0.995 in Saharia et al. 2022).
        spacing: which times are visited, see `diffusion.spacing`.

    Raises:
        ValueError: a field out of range, named first.
    """

    steps: int | None = 50
    clip: bool = True
    threshold: float | None = None
    spacing: Spacing = "auto"

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"steps: must be at least 1, got {self.steps}")
        if self.threshold is not None and not 0 < self.threshold <= 1:
            raise ValueError(f"threshold: must be in (0, 1], got {self.threshold}")

    def times(self, schedule: Schedule) -> Tensor:
        """(length + 1,) float64, decreasing, the last one 0."""
        return schedule.times(self.steps, self.spacing)

    def length(self, schedule: Schedule) -> int:
        return len(self.times(schedule)) - 1

    def calls(self, schedule: Schedule) -> int:
        """How often the network is called."""
        return self.length(schedule)

    def predict(self, denoise: Denoise, x: Tensor, t: Tensor, alpha: Tensor, sigma: Tensor) -> Prediction:
        """What the network reads in x at t, limited as asked."""
        prediction = denoise(x, t)
        if self.threshold is not None:
            return prediction.thresholded(self.threshold, x, alpha, sigma)
        return prediction.clipped(x, alpha, sigma) if self.clip else prediction
