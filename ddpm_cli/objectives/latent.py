"""A variational autoencoder with the likelihood of its pixels, and its bounds on ln p(x)."""

import math
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from ..models.latent import Autoencoder
from .likelihoods import Bernoulli, Gaussian, PixelLikelihood

WIDEST = 10.0
"""Limit of |log-variance| of q(z|x): beyond it, values overflow before the loss can correct them."""


class Density(Protocol):
    """A mixture over z with exact log-density and samples."""

    @property
    def fitted(self) -> bool: ...

    def log_prob(self, z: Tensor) -> Tensor: ...

    def sample(self, u: Tensor, eps: Tensor) -> Tensor: ...


class LatentModel(nn.Module):
    """q(z|x), p(x|z) and the priors of an autoencoder.

    Args:
        likelihood: bernoulli, continuous_bernoulli or gaussian.
        variance: variance of the Gaussian; None = the learned one of the backbone.
        autocast: lower precision for the backbone alone; None = full precision.
    """

    def __init__(
        self, backbone: Autoencoder, likelihood: str, variance: float | None, autocast: torch.dtype | None = None
    ):
        super().__init__()
        self.backbone: Autoencoder = backbone
        self.autocast = autocast
        self._kind, self._variance = likelihood, variance

    @property
    def latent(self) -> int:
        return self.backbone.latent

    @property
    def mixture(self) -> Density | None:
        """The fitted prior; None if there is none or it has not been fitted yet."""
        mixture = self.backbone.mixture
        return mixture if mixture is not None and mixture.fitted else None

    @property
    def likelihood(self) -> PixelLikelihood:
        if self._kind != "gaussian":
            return Bernoulli(normalized=self._kind == "continuous_bernoulli")
        learned = self.backbone.log_variance
        return Gaussian(learned.exp() if self._variance is None and learned is not None else self._variance or 1.0)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (B,L) of q(z|x), float32."""
        with torch.autocast(x.device.type, self.autocast, enabled=self.autocast is not None):
            mean, log_var = self.backbone.encode(x)
        return mean.float(), log_var.float().clamp(-WIDEST, WIDEST)

    def decode(self, z: Tensor) -> Tensor:
        """The output of the decoder, (B,C,H,W) float32, which the likelihood interprets."""
        with torch.autocast(z.device.type, self.autocast, enabled=self.autocast is not None):
            return self.backbone.decode(z).float()

    def image(self, z: Tensor) -> Tensor:
        """The expected image (B,C,H,W) in [-1, 1], given z (B,L)."""
        return self.likelihood.mean(self.decode(z))

    def reconstruct(self, x: Tensor, eps: Tensor) -> Tensor:
        """The expected image for a sample of q(z|x), made from eps (B,L) standard normal.

        It does not use the mean of q: where q is close to the prior, the mean is far shorter than any z in training.
        """
        mean, log_var = self.encode(x)
        return self.image(mean + (0.5 * log_var).exp() * eps)


class LogWeights(NamedTuple):
    """Log-densities of K samples from q(z|x) for each of B images, (K,B) nats each.

    reconstruction: ln p(x|z); log_q: ln q(z|x); normal: ln N(z; 0, I); mixture: ln p(z) of the fitted prior, or None.
    """

    reconstruction: Tensor
    log_q: Tensor
    normal: Tensor
    mixture: Tensor | None

    def of(self, prior: Tensor) -> Tensor:
        """ln w = ln p(x|z) + ln p(z) - ln q(z|x)."""
        return self.reconstruction + prior - self.log_q


class LatentNoise(Protocol):
    def __call__(self, like: Tensor) -> Tensor: ...


def log_weights(model: LatentModel, x: Tensor, dequantized: Tensor, samples: int, noise: LatentNoise) -> LogWeights:
    """Draw z `samples` times from q(z|x) and compute their log-weights, on the host in float64.

    Args:
        x: images (B,C,H,W) in [-1, 1], the input of the encoder.
        dequantized: the same images dequantised, on the host, whose density is measured. q only sees x, which is
            allowed, because the bound holds for any q.
        noise: returns standard normal noise like (B,L), new at each call.
    """
    mean, log_var = model.encode(x)
    likelihood, mixture = model.likelihood, model.mixture
    rows: list[list[Tensor]] = []
    for _ in range(samples):
        eps = noise(mean)
        z = mean + (0.5 * log_var).exp() * eps
        row = [
            likelihood.log_density(model.decode(z).cpu().double(), dequantized.double()),
            (log_normal(eps) - 0.5 * log_var.sum(1)).cpu().double(),
            log_normal(z).cpu().double(),
        ]
        rows.append(row if mixture is None else [*row, mixture.log_prob(z).cpu().double()])
    columns = [torch.stack(column) for column in zip(*rows, strict=True)]
    return LogWeights(columns[0], columns[1], columns[2], columns[3] if mixture is not None else None)


def elbo(log_w: Tensor) -> Tensor:
    """E[ln w] <= ln p(x) (Kingma & Welling 2014, eq. 2), (K,B) -> (B,)."""
    return log_w.mean(0)


def importance_weighted(log_w: Tensor) -> Tensor:
    """ln of the mean of w over the K draws (Burda et al. 2016, eq. 8), (K,B) -> (B,). Never below `elbo`."""
    return torch.logsumexp(log_w, 0) - math.log(len(log_w))


def log_normal(z: Tensor) -> Tensor:
    """ln N(z; 0, I), (B,L) -> (B,)."""
    return -0.5 * (z.square() + math.log(2 * math.pi)).sum(1)
