"""Means over the steps since the last log line, kept on the device so that no step waits for the GPU."""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ..errors import NonFiniteError


class Meter:
    """Sums the logged values on the device; its clock excludes pauses (validation, sampling, saving)."""

    def __init__(self, device: torch.device):
        self.names: list[str] = []
        self.sums = torch.zeros(0, device=device)
        self.steps = 0
        self.images = 0
        self.seconds = 0.0
        self._since = time.perf_counter()

    def add(self, logs: Mapping[str, Tensor], images: int) -> None:
        """Add the values of a step; every step must have the same names, or none if it was skipped."""
        if not logs:
            return
        values = torch.stack([v.detach().float() for v in logs.values()])
        self.sums, self.names = (self.sums + values if self.steps else values), list(logs)
        self.steps += 1
        self.images += images

    def pause(self) -> None:
        self.seconds += time.perf_counter() - self._since

    def resume(self) -> None:
        self._since = time.perf_counter()

    @contextmanager
    def paused(self, step: int) -> Iterator[None]:
        """Stop the clock inside the context. Raises NonFiniteError on entering it, see `check`."""
        self.check(step)
        self.pause()
        yield
        self.resume()

    def check(self, step: int) -> dict[str, float]:
        """The means. This is the only place where training waits for the device.

        Raises:
            NonFiniteError: one of them is NaN or infinite.
        """
        if not self.steps:
            return {}
        means = dict(zip(self.names, (self.sums / self.steps).tolist(), strict=True))
        for name, value in means.items():
            if not math.isfinite(value):
                raise NonFiniteError(became(name, value, step))
        return means

    def row(self, step: int) -> dict[str, Any]:
        """The means as a row of metrics.jsonl; resets them."""
        means = self.check(step)
        self.pause()
        rate = self.images / max(self.seconds, 1e-9)
        self.steps, self.images, self.seconds = 0, 0, 0.0
        self.resume()
        return means | {"images_per_second": round(rate, 2)}


class Period:
    """The mean training loss since the last regular log line. Unlike the meter, it is saved in checkpoints.

    Args:
        total, steps: the sum of the losses of an earlier session, and their number.
    """

    def __init__(self, total: float = 0.0, steps: int = 0):
        self.total: Tensor | float = total
        self.steps = steps

    def add(self, logs: Mapping[str, Tensor]) -> None:
        """Add the loss of a step. The sum stays on the device."""
        if "loss" in logs:
            self.total = self.total + logs["loss"].detach().float()
            self.steps += 1

    def means(self) -> dict[str, float]:
        """The mean loss, if any was logged; resets the sum."""
        means = {"loss": float(self.total / self.steps)} if self.steps else {}
        self.total, self.steps = 0.0, 0
        return means

    def saved(self) -> dict[str, float]:
        """The arguments that restore it. A float32 as a Python number is exact, so the sum continues bit for bit."""
        return {"total": float(self.total), "steps": self.steps}


def became(name: str, value: float, step: int) -> str:
    """The message about a value that is NaN or infinite."""
    advice = "lower optimizer.lr, set trainer.grad_clip=1, or use trainer.precision=fp32"
    return f"{name}: became {value} by step {step}; a checkpoint saved earlier is intact; {advice}"
