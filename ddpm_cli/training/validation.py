"""What a run looks at while it trains. None of it touches the random numbers of training."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..data.images import Images, to_float
from ..diffusion.denoiser import Denoiser
from ..diffusion.generate import generate
from ..diffusion.noise import ImageNoise
from ..diffusion.samplers import Sampler
from ..objectives.base import Objective
from ..objectives.latent import LatentModel
from .randomness import StepRandom

VALIDATION = 2**31  # the seed of validation, far from those of users


@dataclass(frozen=True)
class Looks:
    """What a run looks at now and then; None = nothing."""

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


def held_out(images: Images, most: int | None) -> Images:
    """At most `most` images, the same ones always, drawn from all of them."""
    if most is None or most >= len(images):
        return images
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(VALIDATION))
    return images.subset(order[:most])


def preview(
    model: Denoiser, sampler: Sampler, shape: Sequence[int], n: int, labels: Tensor | None
) -> Callable[[], Tensor]:
    """A function that draws the same `n` noises to images (N,C,H,W) in [-1, 1] with the weights of the moment."""

    def draw() -> Tensor:
        model.eval()
        return torch.cat(list(generate(model, sampler, shape, range(n), labels, batch_size=n)))

    return draw


def pairs(model: LatentModel, images: Images, n: int) -> Callable[[], Tensor]:
    """A function that gives rows of real images, below each row what the model makes of it, all in [-1, 1].

    Laid out in `columns_of_pairs(n)` columns; `n` images in all, or a few less.
    """
    columns = columns_of_pairs(n)
    rows = max(1, min(n // columns // 2, len(images) // columns))
    few = to_float(images.take(rows * columns).pixels)
    eps = ImageNoise(range(len(few))).first((model.latent,), "cpu")

    def look() -> Tensor:
        model.eval()
        real = few.to(next(model.parameters()).device)
        with torch.no_grad():
            made = model.reconstruct(real, eps.to(real.device))
        return torch.cat([part for pair in zip(real.split(columns), made.split(columns), strict=True) for part in pair])

    return look


def columns_of_pairs(n: int) -> int:
    return max(1, math.isqrt(n))
