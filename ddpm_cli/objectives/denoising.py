"""The simple denoising loss."""

from dataclasses import dataclass

import torch.nn.functional as F  # noqa: N812
from torch import nn

from ..diffusion.denoiser import Denoiser
from ..diffusion.target import Target
from .base import Loss, Pair, Random


@dataclass(frozen=True)
class Denoising:
    """L_simple = E_{t, x0, eps} |target - network(x_t, t)|^2, the mean over pixels (Ho et al. 2020, eq. 14).

    Args:
        target: what the network regresses; the same object reads its output when sampling.
    """

    target: Target

    def __call__(self, model: nn.Module, batch: Pair, rng: Random) -> Loss:
        assert isinstance(model, Denoiser)
        x0 = batch.x
        t = model.schedule.time(rng.uniform())
        eps = rng.normal(*x0.shape[1:])
        alpha, sigma = model.alpha_sigma(t, x0.ndim)
        out = model.output(alpha * x0 + sigma * eps, t, batch.y)
        loss = F.mse_loss(out, self.target.of(x0, eps, alpha, sigma))
        return Loss(loss, {"loss": loss.detach()})
