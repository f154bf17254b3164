"""Exponential moving average (EMA) of the weights, with which samples are drawn."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from .plan import Decay


class EMA:
    """A copy of `module` whose weights follow: average <- d average + (1 - d) weight.

    The running statistics of batch normalisation are averaged in the same way, because they belong to the weights.
    """

    def __init__(self, module: nn.Module, decay: Decay):
        self.decay = decay
        self.module = deepcopy(module).eval().requires_grad_(False)
        self._average, self._counts = _changing(self.module)
        self._weights, self._counted = _changing(module)

    @torch.no_grad()
    def update(self, n: int) -> None:
        """Update the average after optimizer step n (from 0), in one fused operation over all weights."""
        torch._foreach_lerp_(self._average, self._weights, 1 - self.decay.at(n))
        for average, count in zip(self._counts, self._counted, strict=True):
            average.copy_(count)


def _changing(module: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Tensors to average (weights, and saved statistics), and integer buffers to copy (counts)."""
    saved = module.state_dict()
    buffers = [b for name, b in module.named_buffers() if name in saved]
    floating = [b for b in buffers if b.is_floating_point()]
    return [*module.parameters(), *floating], [b for b in buffers if not b.is_floating_point()]
