"""Random numbers of training as functions of (seed, step), never of history, so that resuming is exact."""

import numpy as np
import torch
from torch import Tensor


def seed_of(*entropy: int) -> int:
    """A well-mixed 63-bit seed from any number of non-negative integers."""
    high, low = np.random.SeedSequence(entropy).generate_state(2, np.uint32)
    return int(high) << 31 ^ int(low)


class StepRandom:
    """The random numbers of one training step. Each call has its own stream, keyed by (seed, step, index of the call).

    Numbers are drawn for the whole batch and then cut, so that an image's noise does not depend on the size of
    micro-batches or the number of processes.

    Args:
        total: the number of images in the whole batch.
        rows: the part of the batch that this call of the objective gets.
    """

    def __init__(self, seed: int, step: int, device: torch.device, total: int, rows: slice | None = None):
        self.key = (seed, step)
        self.device = device
        self.total = total
        self.rows = rows or slice(0, total)
        self.calls = 0

    def uniform(self, *shape: int) -> Tensor:
        """(B, *shape) in [0, 1)."""
        return torch.rand(self.total, *shape, generator=self._generator(), device=self.device)[self.rows]

    def normal(self, *shape: int) -> Tensor:
        """(B, *shape) standard normal."""
        return torch.randn(self.total, *shape, generator=self._generator(), device=self.device)[self.rows]

    @property
    def first(self) -> bool:
        return self.rows.start == 0

    def index(self) -> Tensor:
        """(B,) the index of each image in the whole batch."""
        return torch.arange(self.rows.start, self.rows.stop, device=self.device)

    def coin(self) -> bool:
        """A fair coin, the same for every part of the batch. Drawn on the host, because it decides what is computed."""
        self.calls += 1
        return bool(seed_of(*self.key, self.calls) & 1)

    def _generator(self) -> torch.Generator:
        self.calls += 1
        return torch.Generator(self.device).manual_seed(seed_of(*self.key, self.calls))


def seed_step(seed: int, step: int, device: torch.device) -> None:
    """Seed the global generators of the host and of `device`, which dropout uses, for one step.

    torch.manual_seed is avoided: it is slow, as it records the call stack for every kind of device not yet in use.
    """
    value = seed_of(seed, step, 0)
    torch.default_generator.manual_seed(value)
    if device.type != "cpu":
        module = torch.get_device_module(device)
        getattr(module, "manual_seed_all", module.manual_seed)(value)
