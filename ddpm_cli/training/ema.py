"""Exponential moving average of the weights: what is sampled from."""

from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Decay:
    """How long the memory is.

    Args:
        decay: in [0, 1); 0 keeps no average.
        warmup: begin short, with min(decay, (1 + n) / (10 + n)) after n updates, so that the random start is forgotten.
    """

    decay: float = 0.999
    warmup: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay: must be in [0, 1), got {self.decay}")

    def at(self, n: int) -> float:
        return min(self.decay, (1 + n) / (10 + n)) if self.warmup else self.decay


class EMA:
    """A copy of `module` whose weights follow: average <- d average + (1 - d) weight."""

    def __init__(self, module: nn.Module, decay: Decay):
        self.decay = decay
        self.module = deepcopy(module).eval().requires_grad_(False)
        self._average: list[Tensor] = list(self.module.parameters())
        self._weights: list[Tensor] = list(module.parameters())

    @torch.no_grad()
    def update(self, n: int) -> None:
        """After update number n (from 0). One fused operation over all weights."""
        torch._foreach_lerp_(self._average, self._weights, 1 - self.decay.at(n))
