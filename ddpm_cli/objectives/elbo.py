"""The evidence lower bound of a variational autoencoder."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ..diffusion.schedule import Schedule
from .base import LabelledBatch, Loss, Random
from .latent import LatentModel
from .networks import as_autoencoder


@dataclass(frozen=True)
class ELBO:
    """-E_q ln p(x|z) + beta KL(q(z|x) || N(0, I)) with z = mean + exp(log_var / 2) eps (Kingma & Welling 2014, eq. 10).

    The logs are nats per image, summed over pixels and averaged over the batch. The differentiated value is per pixel
    and channel, so that `trainer.grad_clip` means the same for all image sizes. (The tutorials sum over the batch as
    well; Adam takes the same step, up to its epsilon.)

    Args:
        likelihood: bernoulli: cross-entropy of grey levels in [0, 1]; continuous_bernoulli: the same, normalised;
            gaussian: squared error.
        variance: variance of the Gaussian, for pixels in [-1, 1]; None = one learned number (Rybkin et al. 2021).
        beta: weight of the KL divergence (Higgins et al. 2017); 1 = the bound.
        free_bits: KL divergence of each latent dimension in nats, averaged over the batch (or micro-batch), below which
            it does not count (Kingma et al. 2016, appendix C.8).

    Raises:
        ValueError: a field is out of range; the message starts with its name.
    """

    likelihood: Literal["bernoulli", "continuous_bernoulli", "gaussian"] = "bernoulli"
    variance: float | None = None
    beta: float = 1.0
    free_bits: float = 0.0

    def __post_init__(self) -> None:
        if self.variance is not None and not self.variance > 0:
            raise ValueError(f"variance: must be positive or null, got {self.variance}")
        for name, value in (("beta", self.beta), ("free_bits", self.free_bits)):
            if not value >= 0:
                raise ValueError(f"{name}: must be at least 0, got {value}")

    def wrap(self, module: nn.Module, schedule: Schedule, autocast: torch.dtype | None = None) -> LatentModel:
        """Raises ValueError, naming the objective, unless the module is an autoencoder. The schedule is not used."""
        return LatentModel(as_autoencoder(module), self.likelihood, self.variance, autocast)

    def __call__(self, model: nn.Module, batch: LabelledBatch, rng: Random) -> Loss:
        assert isinstance(model, LatentModel)
        mean, log_var = model.encode(batch.x)
        z = mean + (0.5 * log_var).exp() * rng.normal(model.latent)
        reconstruction = -model.likelihood.nats(model.decode(z), batch.x).mean()
        each = kl_of_normal(mean, log_var).mean(0)
        kl = each.sum()
        counted = each.clamp(min=self.free_bits).sum() if self.free_bits and model.training else kl
        loss = reconstruction + self.beta * counted
        logs = {"loss": loss.detach(), "reconstruction": reconstruction.detach(), "kl": kl.detach()}
        return Loss(loss / batch.x[0].numel(), logs)


def kl_of_normal(mean: Tensor, log_var: Tensor) -> Tensor:
    """KL(N(mean, e^log_var) || N(0, 1)) = -(1 + log_var - mean^2 - e^log_var) / 2, elementwise
    (Kingma & Welling 2014, appendix B)."""
    return -0.5 * (1 + log_var - mean.square() - log_var.exp())
