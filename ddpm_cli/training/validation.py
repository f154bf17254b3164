"""Validation while a run trains. It does not touch the random numbers of training."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..data.images import Images
from ..errors import NonFiniteError
from ..objectives.base import Objective
from .randomness import StepRandom

VALIDATION = 2**31  # the seed of validation, far from those of users


@dataclass(frozen=True)
class Callbacks:
    """Functions that the loop calls at intervals, or None. validate: values by name; sample: images (N,C,H,W)."""

    validate: Callable[[], dict[str, float]] | None = None
    sample: Callable[[], Tensor] | None = None


def measured(validate: Callable[[], dict[str, float]], step: int) -> dict[str, float]:
    """What `validate()` returns.

    Raises:
        NonFiniteError: a value is NaN or infinite. The model is of no use then, and the value none for metrics.jsonl.
    """
    row = validate()
    for name, value in row.items():
        if not math.isfinite(value):
            raise NonFiniteError(
                f"{name}: is {value} at step {step}; a checkpoint saved earlier is intact; lower optimizer.lr, set "
                "trainer.grad_clip=1, or use trainer.precision=fp32"
            )
    return row


def validation_loss(
    objective: Objective, model: nn.Module, images: Images, batch_size: int, split: str = "val"
) -> dict[str, float]:
    """Means over held-out `images` of what the objective logs, such as `val_loss` (`test_loss` with split="test").

    The times and the noise are the same at every call, so that values of different steps can be compared.
    """
    device = next(model.parameters()).device
    model.eval()
    sums: dict[str, Tensor] = {}
    with torch.no_grad():
        for index, batch in enumerate(images.chunks(batch_size, device)):
            rng = StepRandom(VALIDATION, index, device, len(batch.x))
            for name, value in objective(model, batch, rng).logs.items():
                sums[name] = sums.get(name, torch.zeros((), device=device)) + value.float() * len(batch.x)
    return {f"{split}_{name}": float(value) / max(len(images), 1) for name, value in sums.items()}


def at_most(images: Images, most: int | None) -> Images:
    """At most `most` images: a random subset that is always the same."""
    if most is None or most >= len(images):
        return images
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(VALIDATION))
    return images.subset(order[:most])
