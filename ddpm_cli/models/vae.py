"""The variational autoencoder of the tutorials (Kingma & Welling 2014)."""

from typing import Literal

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from .latent import Autoencoder, Likelihood

KERNEL = 3


class VAE(Autoencoder):
    """Two unpadded 3x3 convolutions and a linear layer up to z; two linear layers from z to the pixels.

    For 1x28x28: 20 channels of 24x24 = 11,520 -> 800 -> mean and log-variance of 100; 100 -> 2000 -> 784.

    Args:
        in_channels, image_size, latent, likelihood, variance, prior, prior_components: see `Autoencoder`.
        channels: width of both convolutions.
        encoder_width: width of the hidden linear layer before z.
        decoder_width: width of the hidden linear layer after z.

    Raises:
        ValueError: the images are smaller than 5x5, or a number is out of range.
    """

    def __init__(
        self,
        in_channels: int = 1,
        image_size: int | tuple[int, int] = 28,
        channels: int = 20,
        encoder_width: int = 800,
        decoder_width: int = 2000,
        latent: int = 100,
        likelihood: Likelihood = "bernoulli",
        variance: float | None = None,
        prior: Literal["normal", "gmm"] = "gmm",
        prior_components: int = 10,
    ):
        super().__init__(in_channels, image_size, latent, likelihood, variance, prior, prior_components)
        for name, value in (("channels", channels), ("encoder_width", encoder_width), ("decoder_width", decoder_width)):
            if value < 1:
                raise ValueError(f"{name}: must be at least 1, got {value}")
        _, height, width = self.shape
        lost = 2 * (KERNEL - 1)
        if min(height, width) <= lost:
            raise ValueError(f"image_size: must be at least {lost + 1}, got {image_size}; use model=vae_conv")
        self.conv1 = nn.Conv2d(in_channels, channels, KERNEL)
        self.conv2 = nn.Conv2d(channels, channels, KERNEL)
        self.hidden = nn.Linear(channels * (height - lost) * (width - lost), encoder_width)
        self.mean = nn.Linear(encoder_width, latent)
        self.log_var = nn.Linear(encoder_width, latent)
        self.unfold = nn.Linear(latent, decoder_width)
        self.pixels = nn.Linear(decoder_width, in_channels * height * width)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z|x). The convolutions get grey levels in [0, 1], as in the tutorials."""
        h = F.relu(self.conv2(F.relu(self.conv1((x + 1) / 2))))
        h = F.relu(self.hidden(h.flatten(1)))
        return self.mean(h), self.log_var(h)

    def decode(self, z: Tensor) -> Tensor:
        return self.pixels(F.relu(self.unfold(z))).view(-1, *self.shape)
