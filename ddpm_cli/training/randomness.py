"""Random numbers of training as functions of (seed, step), never of history, so that a resumed run draws the same."""

import numpy as np
import torch
from torch import Tensor

Entropy = tuple[int, ...]


def seed_of(*entropy: int) -> int:
    """A well-mixed 63-bit seed from any number of non-negative integers."""
    high, low = np.random.SeedSequence(entropy).generate_state(2, np.uint32)
    return int(high) << 31 ^ int(low)


class StepRandom:
    """What an objective draws in one step. Each call has its own stream, keyed by (seed, step, number of the call).

    The whole batch is drawn and then cut, so that neither micro-batches nor processes change anyone's noise.

    Args:
        total: images in the whole batch.
        rows: the part of it that this call of the objective sees.
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
        """(B,) the place of each image in the whole batch."""
        return torch.arange(self.rows.start, self.rows.stop, device=self.device)

    def coin(self) -> bool:
        """The same for every part of the batch. Drawn on the host: it decides what is computed."""
        self.calls += 1
        return bool(seed_of(*self.key, self.calls) & 1)

    def _generator(self) -> torch.Generator:
        self.calls += 1
        return torch.Generator(self.device).manual_seed(seed_of(*self.key, self.calls))


def seed_step(seed: int, step: int, device: torch.device) -> None:
    """Seed the global generators, which dropout uses, for one step: that of the host and that of `device`.

    Not by torch.manual_seed, which notes the whole call stack for every kind of device that may be used later.
    """
    value = seed_of(seed, step, 0)
    torch.default_generator.manual_seed(value)
    if device.type != "cpu":
        module = torch.get_device_module(device)
        getattr(module, "manual_seed_all", module.manual_seed)(value)
