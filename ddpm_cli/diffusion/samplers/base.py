"""What all samplers share. A sampler is a frozen value; calling it gives a generator of frames.

Frame i holds x_t before step i together with the x0 that the network reads in it; the last frame is the sample
(t = 0, x = x0). So `sample` takes the last frame, `gif` draws them all and a progress bar counts them.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from torch import Tensor

from ..denoiser import Denoise
from ..schedule import Schedule

Noise = Callable[[Tensor], Tensor]  # like (B,C,H,W) -> standard normal of the same shape, dtype and device


class Frame(NamedTuple):
    t: float
    x: Tensor
    x0: Tensor


class Sampler(Protocol):
    def __call__(self, denoise: Denoise, schedule: Schedule, x: Tensor, noise: Noise) -> Iterator[Frame]:
        """x (B,C,H,W): standard normal noise. Yields (steps + 1) frames."""
        ...

    def length(self, schedule: Schedule) -> int:
        """How many times the network is called."""
        ...


def check_steps(steps: int | None) -> None:
    if steps is not None and steps < 1:
        raise ValueError(f"steps: must be at least 1, got {steps}")
