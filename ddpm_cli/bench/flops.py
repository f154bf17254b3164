"""Counts the floating-point operations of the convolutions and matrix products of a network, with torch's counter."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ..data.images import Batch
from ..diffusion.denoiser import Denoiser
from ..objectives.base import Objective
from ..training.randomness import StepRandom

IMAGES = 2
"""Number of images to count with. All cost the same; batch normalisation needs more than one."""


class Flops(NamedTuple):
    """FLOP per image, where a multiplication and an addition are two: forward to the loss, and forward + backward."""

    forward: float
    training: float


class FixedCoin(StepRandom):
    """Random numbers whose coin always shows the same side. `tossed`: whether the coin was used."""

    def __init__(self, side: bool, device: torch.device, total: int):
        super().__init__(0, 0, device, total)
        self.side, self.tossed = side, False

    def coin(self) -> bool:
        self.tossed = True
        return self.side


def training_flops(objective: Objective, model: nn.Module, batch: Batch) -> Flops:
    """FLOP per image of a training step; the mean over both sides if the objective tosses a coin.

    To be called before compiling, because the counter cannot look into compiled code.

    Args:
        model: the module that the objective calls, on any device; its gradients are cleared.
    """
    batch, parameter = Batch(batch.x[:IMAGES], batch.y[:IMAGES]), next(model.parameters())
    batch = Batch(batch.x.to(parameter.device), batch.y.to(parameter.device))
    model.train()
    sides: list[Flops] = []
    for side in (True, False):
        rng = FixedCoin(side, parameter.device, len(batch.x))
        # plain attention, whose matrix products are counted on every device
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            loss = objective(model, batch, rng)
            forward = counter.get_total_flops()
            loss.value.backward()
        sides.append(Flops(forward / len(batch.x), counter.get_total_flops() / len(batch.x)))
        if not rng.tossed:
            break
    model.zero_grad(set_to_none=True)
    return Flops(*(sum(values) / len(sides) for values in zip(*sides, strict=True)))


@torch.no_grad()
def call_flops(model: Denoiser, x: Tensor, y: Tensor | None) -> float:
    """FLOP of one network call per image; x (B,C,H,W), y (B,) or None, on the model's device."""
    t = torch.full((len(x),), 0.5, device=x.device)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(x, t, y)
    return counter.get_total_flops() / len(x)
