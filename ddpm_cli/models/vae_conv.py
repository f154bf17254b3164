"""A variational autoencoder of residual convolutions, for images of any size."""

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from .latent import Autoencoder, Likelihood
from .layers import normalize, zeroed


class Block(nn.Module):
    """norm, SiLU, conv, norm, SiLU, conv, + x; the last convolution starts at zero."""

    def __init__(self, channels: int):
        super().__init__()
        self.branch = nn.Sequential(
            normalize(channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            normalize(channels),
            nn.SiLU(),
            zeroed(nn.Conv2d(channels, channels, 3, padding=1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


class ConvVAE(Autoencoder):
    """Every level halves the image with a strided 4x4 convolution and has residual blocks; the decoder mirrors this.

    Sides that cannot be halved that often are padded by repeating the last row or column, and cropped at the end.
    Nearly all computation is at half size or below, so that it is also fast on a CPU.

    Args:
        in_channels, image_size, latent, likelihood, variance, prior, prior_components: see `Autoencoder`.
        channels: width of the first level.
        multipliers: width of every level as a multiple of `channels`.
        blocks: residual blocks per level, in the encoder and in the decoder.

    Raises:
        ValueError: there are no levels, or a number is out of range.
    """

    def __init__(
        self,
        in_channels: int = 3,
        image_size: int | tuple[int, int] = 32,
        channels: int = 32,
        multipliers: Sequence[int] = (1, 2, 4),
        blocks: int = 1,
        latent: int = 64,
        likelihood: Likelihood = "gaussian",
        variance: float | None = None,
        prior: Literal["normal", "gmm"] = "gmm",
        prior_components: int = 20,
    ):
        super().__init__(in_channels, image_size, latent, likelihood, variance, prior, prior_components)
        if not multipliers or min(multipliers) < 1 or channels < 1:
            raise ValueError(f"multipliers: must be one whole number per level, at least 1 each, got {multipliers}")
        if blocks < 0:
            raise ValueError(f"blocks: must be at least 0, got {blocks}")
        widths = [channels * m for m in multipliers]
        _, height, width = self.shape
        unit = 2 ** len(widths)
        self.padding = (-width % unit, -height % unit)  # right and bottom
        self.bottom = widths[-1], -(-height // unit), -(-width // unit)
        flat = self.bottom[0] * self.bottom[1] * self.bottom[2]
        self.encoder = nn.Sequential(*_down(in_channels, widths, blocks), normalize(widths[-1]), nn.SiLU())
        self.posterior = nn.Linear(flat, 2 * latent)
        self.unfold = nn.Linear(latent, flat)
        self.decoder = nn.Sequential(*_up(in_channels, widths, blocks))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        right, below = self.padding
        h = self.encoder(F.pad(x, (0, right, 0, below), mode="replicate"))
        mean, log_var = self.posterior(h.flatten(1)).chunk(2, dim=1)
        return mean, log_var

    def decode(self, z: Tensor) -> Tensor:
        _, height, width = self.shape
        return self.decoder(self.unfold(z).view(-1, *self.bottom))[:, :, :height, :width]


def _down(channels: int, widths: Sequence[int], blocks: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for before, width in zip([channels, *widths], widths, strict=False):
        layers += [nn.Conv2d(before, width, 4, stride=2, padding=1), *(Block(width) for _ in range(blocks))]
    return layers


def _up(channels: int, widths: Sequence[int], blocks: int) -> list[nn.Module]:
    """The decoder, from the last width to the first; full size costs most, so it has half the channels and no block."""
    layers: list[nn.Module] = []
    for i in reversed(range(len(widths))):
        layers += [Block(widths[i]) for _ in range(blocks)]
        if i:
            layers += [nn.Upsample(scale_factor=2), nn.Conv2d(widths[i], widths[i - 1], 3, padding=1)]
    narrow = max(widths[0] // 2, channels)
    layers += [normalize(widths[0]), nn.SiLU(), nn.Upsample(scale_factor=2)]
    last = [nn.Conv2d(widths[0], narrow, 3, padding=1), nn.SiLU(), nn.Conv2d(narrow, channels, 3, padding=1)]
    return [*layers, *last]
