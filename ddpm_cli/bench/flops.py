"""Floating-point operations of the convolutions and matrix products in a network, counted by torch as they run."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ..data.images import Batch
from ..diffusion.denoiser import Denoiser
from ..objectives.base import Objective
from ..training.randomness import StepRandom

FEW = 2
"""Images that are counted with: they all cost the same, and batch normalisation wants more than one."""


class Flops(NamedTuple):
    """Of one image in FLOP, a multiplication and an addition being two: the loss, and the loss with its gradient."""

    forward: float
    training: float


class FixedCoin(StepRandom):
    """Random numbers whose coin always falls on one side; `tossed` says whether anyone asked."""

    def __init__(self, side: bool, device: torch.device, total: int):
        super().__init__(0, 0, device, total)
        self.side, self.tossed = side, False

    def coin(self) -> bool:
        self.tossed = True
        return self.side


def training_flops(objective: Objective, model: nn.Module, batch: Batch) -> Flops:
    """The mean over both sides where a coin decides what is computed. Before compiling: a counter sees no further.

    Args:
        model: what the objective calls, in any place; its gradients are gone afterwards.
    """
    few, parameter = Batch(batch.x[:FEW], batch.y[:FEW]), next(model.parameters())
    few = Batch(few.x.to(parameter.device), few.y.to(parameter.device))
    model.train()
    sides: list[Flops] = []
    for side in (True, False):
        rng = FixedCoin(side, parameter.device, len(few.x))
        # the plain form of attention: its products are counted one by one on every device
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            loss = objective(model, few, rng)
            forward = counter.get_total_flops()
            loss.value.backward()
        sides.append(Flops(forward / len(few.x), counter.get_total_flops() / len(few.x)))
        if not rng.tossed:
            break
    model.zero_grad(set_to_none=True)
    return Flops(*(sum(values) / len(sides) for values in zip(*sides, strict=True)))


@torch.no_grad()
def call_flops(model: Denoiser, x: Tensor, y: Tensor | None) -> float:
    """Of one network call for one image, in FLOP; x (B,C,H,W), y (B,) or None, on the model's device."""
    t = torch.full((len(x),), 0.5, device=x.device)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(x, t, y)
    return counter.get_total_flops() / len(x)
