"""The base of all samplers. A sampler is a frozen dataclass; calling it returns a generator of frames.

Frame i has x_t before step i and the network's estimate of x0; the last frame is the sample (t = 0, x = x0). So
`sample` uses the last frame, `gif` draws all of them and a progress bar counts them.
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
    """t, x_t (B,C,H,W) and the estimate of x0 (B,C,H,W)."""

    t: float
    x: Tensor
    x0: Tensor


class Sampler(Protocol):
    """The interface of a sampler."""

    def __call__(self, denoise: Denoise, schedule: Schedule, x: Tensor, noise: Noise) -> Iterator[Frame]:
        """x (B,C,H,W): x_t at the first of `schedule.times`. Yields (length + 1) frames."""
        ...

    def length(self, schedule: Schedule) -> int:
        """The number of steps. A sampler that calls the network more often than that also defines `calls`."""
        ...


@dataclass(frozen=True, kw_only=True)
class Stepper:
    """The options of samplers that follow `schedule.times`. Subclasses implement `__call__`.

    Args:
        steps: number of steps; None = as many as the schedule has.
        clip: clamp the predicted x0 to [-1, 1] at every step (eps changes accordingly).
        threshold: instead of `clip`, the quantile of dynamic thresholding, in (0, 1] (0.995 in Saharia et al. 2022).
        spacing: the spacing of the times, see `diffusion.spacing`.

    Raises:
        ValueError: a field is out of range; the message starts with its name.
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
        """The number of network calls."""
        return self.length(schedule)

    def predict(self, denoise: Denoise, x: Tensor, t: Tensor, alpha: Tensor, sigma: Tensor) -> Prediction:
        """The network's prediction from x at t, clipped or thresholded as configured."""
        prediction = denoise(x, t)
        if self.threshold is not None:
            return prediction.thresholded(self.threshold, x, alpha, sigma)
        return prediction.clipped(x, alpha, sigma) if self.clip else prediction
