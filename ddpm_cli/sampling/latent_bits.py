"""Bits per dimension of real images under autoencoders (bounds) and Gaussian mixtures (exact)."""

from collections.abc import Callable, Sequence
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
from .bits import ODE_SEEDS, Bits, BitsOptions, MeanError
from .kept import KeptValues

Nats = Callable[[Tensor, Sequence[int]], dict[str, Tensor]]
"""Pixels (B,C,H,W) uint8 and a seed for each -> (B,) by name, in float64 on the host."""


@dataclass(frozen=True)
class MixtureBits:
    """`exact`: the likelihood. Image k is dequantized with noise of `seed` + k."""

    model: GMM
    seed: int

    def __call__(self, images: Images, batch_size: int, progress: Progress, kept: KeptValues | None = None) -> Bits:
        """Raises NonFiniteError when a value is NaN or infinite."""
        protocol = {"model": "gmm", "importance_samples": None, "network_calls": 0}
        return _bits(_Measurement(self._nats, self.seed, kept or KeptValues()), images, batch_size, progress, protocol)

    def _nats(self, pixels: Tensor, seeds: Sequence[int]) -> dict[str, Tensor]:
        return {"exact": self.model.log_prob(_dequantized(pixels, seeds))}


@dataclass(frozen=True)
class AutoencoderBits:
    """`elbo`, its parts `reconstruction` and `kl`, and `iw_bound`, with the prior N(0, I), from the same samples of z;
    if a mixture was fitted, also `elbo_gmm` and `iw_bound_gmm` with the mixture as the prior.

    Image k uses noise of `seed` + k.
    """

    model: LatentModel
    device: torch.device
    options: BitsOptions
    seed: int

    def __call__(self, images: Images, batch_size: int, progress: Progress, kept: KeptValues | None = None) -> Bits:
        """Raises NonFiniteError when a value is NaN or infinite."""
        samples = self.options.importance_samples
        calls = -(-len(images) // batch_size) * (1 + samples)  # of the encoder and the decoder
        protocol = {"model": "vae", "importance_samples": samples, "network_calls": calls}
        return _bits(_Measurement(self._nats, self.seed, kept or KeptValues()), images, batch_size, progress, protocol)

    def _nats(self, pixels: Tensor, seeds: Sequence[int]) -> dict[str, Tensor]:
        dequantized, x = _dequantized(pixels, seeds), to_float(pixels).to(self.device)
        with torch.no_grad():
            weights = log_weights(self.model, x, dequantized, self.options.importance_samples, ImageNoise(seeds))
        return {name: value.cpu() for name, value in _bounds(weights).items()}


@dataclass(frozen=True)
class _Measurement:
    nats_of: Nats
    seed: int
    kept: KeptValues

    def __call__(self, images: Images, rows: range) -> dict[str, Tensor]:
        def compute() -> dict[str, Tensor]:
            return self.nats_of(images.pixels[rows.start : rows.stop], [self.seed + i for i in rows])

        return self.kept.batch(rows, compute)


def _bits(measure: _Measurement, images: Images, batch_size: int, progress: Progress, protocol: dict[str, Any]) -> Bits:
    batches: list[dict[str, Tensor]] = []
    for first in range(0, len(images), batch_size):
        rows = range(first, min(first + batch_size, len(images)))
        batches.append(measure(images, rows))
        progress("images", rows.stop, len(images))
    dimensions, values = images.pixels[0].numel(), {}
    for name in batches[0]:
        nats = torch.cat([batch[name] for batch in batches])
        # a divergence is a difference of logarithms, in which the width of the bins cancels
        bits = ode.bits_per_dimension(nats, dimensions) if name != "kl" else in_bits(nats / dimensions)
        if not bool(bits.isfinite().all()):
            raise NonFiniteError(f"bpd: {name} is not finite; use precision=fp32, or an earlier checkpoint")
        values[name] = MeanError.of(bits)
    return Bits(values, torch.zeros(0), torch.zeros(0), protocol)  # these models have no time


def _dequantized(pixels: Tensor, seeds: Sequence[int]) -> Tensor:
    """Dequantized pixels, float64, with the same noise as for the ODE of a diffusion model."""
    u = torch.special.ndtr(ImageNoise([ODE_SEEDS + seed for seed in seeds])(torch.empty(pixels.shape)))
    return ode.dequantized(pixels, u.double())


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
