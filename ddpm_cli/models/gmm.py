"""A Gaussian mixture as a generative model of images, with exact density."""

import math

import torch
from torch import Tensor, nn

from .mixture import Mixture


class GMM(nn.Module):
    """x = m + U^T c + r: c in k principal components from a mixture of full covariances, r an isotropic residual.

    As in probabilistic PCA (Tipping & Bishop 1999, eq. 8), the residual has the mean variance s^2 of the omitted
    components, so that p(x) = p(c) N(r; 0, s^2 I) is a density of all D = CHW pixels in [-1, 1]: a mixture of the
    covariances U^T S U + s^2 (I - U^T U). Everything is computed in float64 on the host.

    Args:
        in_channels: C.
        image_size: H and W, one number if square.
        components: K.
        dimensions: k, 1..D; the residual in the other dimensions is isotropic.

    Raises:
        ValueError: a number is out of range; the message starts with its name.
    """

    center: Tensor
    basis: Tensor
    residual: Tensor

    def __init__(
        self,
        in_channels: int = 1,
        image_size: int | tuple[int, int] = 28,
        components: int = 10,
        dimensions: int = 32,
    ):
        super().__init__()
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        self.shape = in_channels, height, width
        pixels = in_channels * height * width
        if not 1 <= dimensions <= pixels:
            raise ValueError(
                f"dimensions: must be between 1 and the {pixels} pixel values of an image, got {dimensions}"
            )
        self.dimensions = dimensions
        self.mixture = Mixture(components, dimensions, torch.float64)
        self.register_buffer("center", torch.zeros(pixels, dtype=torch.float64))
        self.register_buffer("basis", torch.eye(dimensions, pixels, dtype=torch.float64))  # U (k,D), orthonormal rows
        self.register_buffer("residual", torch.ones((), dtype=torch.float64))  # s^2

    def coordinates(self, x: Tensor) -> Tensor:
        """The principal components c (B,k) of images (B,C,H,W)."""
        return (x.flatten(1).double() - self.center) @ self.basis.T

    def log_rest(self, x: Tensor) -> Tensor:
        """ln N(r; 0, s^2 I) of images (B,C,H,W), (B,) nats; 0 if there is no residual."""
        centred = x.flatten(1).double() - self.center
        omitted = self.center.numel() - self.dimensions
        if not omitted:
            return torch.zeros(len(x), dtype=torch.float64)
        squares = (centred - centred @ self.basis.T @ self.basis).square().sum(1)  # a difference of sums could cancel
        return -0.5 * (squares / self.residual + omitted * torch.log(2 * math.pi * self.residual))

    def log_prob(self, x: Tensor) -> Tensor:
        """ln p(x) of images (B,C,H,W) in [-1, 1], (B,) nats."""
        return self.mixture.log_prob(self.coordinates(x)) + self.log_rest(x)

    def sample(self, u: Tensor, eps: Tensor, rest: Tensor | None = None) -> Tensor:
        """(B,C,H,W) float32 from u (B,) uniform, eps (B,k) normal and, for r, rest (B,C,H,W) normal (None = no r)."""
        x = self.center + self.mixture.sample(u, eps) @ self.basis
        if rest is not None:
            noise = rest.flatten(1).double()
            x = x + self.residual.sqrt() * (noise - noise @ self.basis.T @ self.basis)
        return x.view(-1, *self.shape).float()
