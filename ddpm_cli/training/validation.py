"""What is measured and drawn while a run trains. None of it touches the random numbers of training."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..data.images import Images
from ..objectives.base import Objective
from .randomness import StepRandom

VALIDATION = 2**31  # the seed of validation, far from those of users


@dataclass(frozen=True)
class Callbacks:
    """What the loop calls now and then; None = nothing. validate: values by name; sample: pictures (N,C,H,W)."""

    validate: Callable[[], dict[str, float]] | None = None
    sample: Callable[[], Tensor] | None = None


def validation_loss(
    objective: Objective, model: nn.Module, images: Images, batch_size: int, split: str = "val"
) -> dict[str, float]:
    """Means over held-out `images` of what the objective logs, `val_loss` and others (with `split`, `test_loss`).

    The times and the noise are the same at every call, so that steps compare.
    """
    device = next(model.parameters()).device
    model.eval()
    sums: dict[str, Tensor] = {}
    with torch.no_grad():
        for number, batch in enumerate(images.chunks(batch_size, device)):
            rng = StepRandom(VALIDATION, number, device, len(batch.x))
            for name, value in objective(model, batch, rng).logs.items():
                sums[name] = sums.get(name, torch.zeros((), device=device)) + value.float() * len(batch.x)
    return {f"{split}_{name}": float(value) / max(len(images), 1) for name, value in sums.items()}


def at_most(images: Images, most: int | None) -> Images:
    """At most `most` images, the same ones always, drawn from all of them."""
    if most is None or most >= len(images):
        return images
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(VALIDATION))
    return images.subset(order[:most])
