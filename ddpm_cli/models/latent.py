"""The base class of the variational autoencoders."""

from typing import Literal

import torch
from torch import Tensor, nn

from .mixture import Mixture

Likelihood = Literal["bernoulli", "continuous_bernoulli", "gaussian"]
GAIN = 10.0
"""Factor on the log-variance parameter: Adam moves all weights equally fast, but this one has to move much further."""


class Autoencoder(nn.Module):
    """x (B,C,H,W) in [-1, 1] -> mean and log-variance (B,L) of q(z|x), and z (B,L) -> parameters of the likelihood.

    Subclasses implement `encode` and `decode`. The prior is N(0, I); with `prior` "gmm" there is also a mixture,
    which is fitted to the latents of the training images at the end of training.

    Args:
        in_channels: C, 1 or 3.
        image_size: H and W, one number if square.
        latent: L.
        likelihood: how the output of `decode` is used: as logits for both kinds of Bernoulli; for a Gaussian,
            mean = tanh(output / 2), which is the tutorials' sigmoid on the scale [-1, 1].
        variance: fixed variance of the Gaussian; None = one learned number for all pixels.
        prior: normal or gmm.
        prior_components: number of components of the mixture.

    Raises:
        ValueError: a number is out of range; the message starts with its name.
    """

    def __init__(
        self,
        in_channels: int,
        image_size: int | tuple[int, int],
        latent: int,
        likelihood: Likelihood,
        variance: float | None,
        prior: Literal["normal", "gmm"],
        prior_components: int,
    ):
        super().__init__()
        for name, value in (
            ("in_channels", in_channels),
            ("latent", latent),
            ("prior_components", prior_components),
        ):
            if value < 1:
                raise ValueError(f"{name}: must be at least 1, got {value}")
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        self.shape, self.latent = (in_channels, height, width), latent
        learned = likelihood == "gaussian" and variance is None
        self.level = nn.Parameter(torch.zeros(())) if learned else None
        self.mixture = Mixture(prior_components, latent) if prior == "gmm" else None

    @property
    def log_variance(self) -> Tensor | None:
        """ln of the learned variance of a pixel in [-1, 1], (); None if it is not learned."""
        return None if self.level is None else GAIN * self.level

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (B,L) of q(z|x)."""
        raise NotImplementedError

    def decode(self, z: Tensor) -> Tensor:
        """z (B,L) -> (B,C,H,W), the input of the likelihood."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """The output of `decode` at the mean of q(z|x)."""
        return self.decode(self.encode(x)[0])
