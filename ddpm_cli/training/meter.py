"""Means over the steps since the last log line, kept on the device so that no step waits for them."""

import math
import time
from typing import Any

import torch
from torch import Tensor

from ..errors import NonFiniteError


class Meter:
    """Sums loss and gradient norm on the device; the clock excludes pauses (validation, sampling, saving)."""

    def __init__(self, device: torch.device):
        self.sums = torch.zeros(2, device=device)
        self.steps = 0
        self.images = 0
        self.seconds = 0.0
        self._since = time.perf_counter()

    def add(self, loss: Tensor, norm: Tensor, images: int) -> None:
        self.sums += torch.stack([loss.detach().float(), norm.detach().float()])
        self.steps += 1
        self.images += images

    def pause(self) -> None:
        self.seconds += time.perf_counter() - self._since

    def go_on(self) -> None:
        self._since = time.perf_counter()

    def check(self, step: int) -> tuple[float, float]:
        """Mean loss and gradient norm: the one place where training waits for the device.

        Raises:
            NonFiniteError: one of them is NaN or infinite.
        """
        loss, norm = (self.sums / max(self.steps, 1)).tolist()
        for name, value in (("loss", loss), ("grad_norm", norm)):
            if not math.isfinite(value):
                raise NonFiniteError(
                    f"{name}: is {value} by step {step}, nothing was saved since it was finite; "
                    "lower optimizer.lr, set trainer.grad_clip=1, or use trainer.precision=fp32"
                )
        return loss, norm

    def row(self, step: int) -> dict[str, Any]:
        """The means as a log line, and start again."""
        loss, norm = self.check(step)
        self.pause()
        rate = self.images / max(self.seconds, 1e-9)
        self.sums.zero_()
        self.steps, self.images, self.seconds = 0, 0, 0.0
        self.go_on()
        return {"loss": loss, "grad_norm": norm, "images_per_second": round(rate, 2)}
