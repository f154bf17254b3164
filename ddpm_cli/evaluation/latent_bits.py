"""Bits per dimension of autoencoders (bounds) and Gaussian mixtures (exact) on real images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..data.images import Images, to_float
from ..diffusion import ode
from ..diffusion.likelihood import in_bits
from ..diffusion.noise import ImageNoise
from ..errors import NonFiniteError
from ..models.gmm import GMM
from ..objectives.latent import LatentModel, LogWeights, elbo, importance_weighted, log_weights
from ..progress import Progress
from ..sampling.generator import Direct
from .bits import STREAMS, Bits, BitsOptions, Figure

ROWS = {
    "exact": "exact likelihood",
    "elbo": "evidence lower bound",
    "reconstruction": "  reconstruction",
    "kl": "  KL divergence",
    "iw_bound": "importance-weighted bound",
    "elbo_gmm": "evidence lower bound, mixture prior",
    "iw_bound_gmm": "importance-weighted bound, mixture prior",
}


def bits_of_latent(
    loaded: Direct, images: Images, batch_size: int, seed: int, samples: int, progress: Progress
) -> dict[str, Figure]:
    """Means over images. The k-th image is dequantised by the noise that the ODE of a diffusion model gets as well.

    Returns:
        `exact` of a mixture. Of an autoencoder `elbo`, its parts `reconstruction` and `kl`, and `iw_bound` from the
        same `samples` draws of z, with the prior N(0, I); where a mixture was fitted, `elbo_gmm` and `iw_bound_gmm`.

    Raises:
        NonFiniteError: one of them is no number.
    """
    parts: list[dict[str, Tensor]] = []
    for first in range(0, len(images), batch_size):
        rows = range(first, min(first + batch_size, len(images)))
        pixels = images.pixels[rows.start : rows.stop]
        parts.append(_nats(loaded, pixels, [seed + i for i in rows], samples))
        progress("images", rows.stop, len(images))
    dimensions, found = images.pixels[0].numel(), {}
    for name in (name for name in ROWS if name in parts[0]):
        nats = torch.cat([part[name] for part in parts])
        # a divergence is a difference of logarithms: the width of the bins has no part in it
        bits = ode.bits_per_dimension(nats, dimensions) if name != "kl" else in_bits(nats / dimensions)
        if not bool(bits.isfinite().all()):
            raise NonFiniteError(f"bpd: {name} is not finite; use precision=fp32, or an earlier checkpoint")
        found[name] = Figure.of(bits)
    return found


@dataclass(frozen=True)
class LatentJudge:
    """How such a checkpoint is judged, as diffusion models are by `Judge`. The k-th image meets noise of `seed` + k."""

    loaded: Direct
    options: BitsOptions
    seed: int

    def __call__(self, images: Images, batch_size: int, progress: Progress) -> Bits:
        samples = self.options.importance_samples
        figures = bits_of_latent(self.loaded, images, batch_size, self.seed, samples, progress)
        return Bits(figures, torch.zeros(0), torch.zeros(0))  # there is no time in it

    def protocol(self, n: int, batch_size: int) -> dict[str, Any]:
        """What the figures depend on. Network calls are the encoder's and the decoder's."""
        if isinstance(self.loaded.model, GMM):
            return {"model": "gmm", "importance_samples": None, "network_calls": 0}
        samples = self.options.importance_samples
        calls = -(-n // batch_size) * (1 + samples)
        return {"model": "vae", "importance_samples": samples, "network_calls": calls}


def _nats(loaded: Direct, pixels: Tensor, seeds: Sequence[int], samples: int) -> dict[str, Tensor]:
    """(B,) each, in float64 on the host: log-likelihoods of pixels spread over their bins, and the KL divergence."""
    u = torch.special.ndtr(ImageNoise([STREAMS + seed for seed in seeds])(torch.empty(pixels.shape)))
    spread = ode.dequantized(pixels, u.double())
    if isinstance(loaded.model, GMM):
        return {"exact": loaded.model.log_prob(spread)}
    assert isinstance(loaded.model, LatentModel)
    device = loaded.runtime.device
    x = to_float(pixels).to(device)
    with torch.no_grad():
        weights = log_weights(loaded.model, x, spread, samples, ImageNoise(seeds))
    return {name: value.cpu() for name, value in _bounds(weights).items()}


def _bounds(weights: LogWeights) -> dict[str, Tensor]:
    log_w = weights.of(weights.normal)
    reconstruction = weights.reconstruction.mean(0)
    out = {
        "elbo": elbo(log_w),
        "reconstruction": reconstruction,
        "kl": reconstruction - elbo(log_w),
        "iw_bound": importance_weighted(log_w),
    }
    if weights.mixture is not None:
        log_w = weights.of(weights.mixture)
        out |= {"elbo_gmm": elbo(log_w), "iw_bound_gmm": importance_weighted(log_w)}
    return out
