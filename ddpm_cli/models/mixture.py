"""A mixture of Gaussians with full covariances, stored in buffers, so that it is saved in checkpoints."""

import math

import torch
from torch import Tensor, nn


class Mixture(nn.Module):
    """p(z) = sum_k w_k N(z; m_k, F_k F_k^T) in L dimensions, F_k lower triangular. w_k = 0 until `fill` is called.

    Args:
        components: K.
        dimensions: L.
        dtype: dtype of the buffers.

    Raises:
        ValueError: fewer than one component.
    """

    weights: Tensor
    means: Tensor
    factors: Tensor

    def __init__(self, components: int, dimensions: int, dtype: torch.dtype = torch.float32):
        super().__init__()
        if components < 1:
            raise ValueError(f"components: must be at least 1, got {components}")
        self.register_buffer("weights", torch.zeros(components, dtype=dtype))
        self.register_buffer("means", torch.zeros(components, dimensions, dtype=dtype))
        self.register_buffer("factors", torch.eye(dimensions, dtype=dtype).repeat(components, 1, 1))

    @property
    def fitted(self) -> bool:
        """Whether `fill` has been called."""
        return bool(self.weights.sum() > 0)

    @property
    def covariances(self) -> Tensor:
        """F_k F_k^T, (K,L,L)."""
        return self.factors @ self.factors.mT

    def fill(self, weights: Tensor, means: Tensor, covariances: Tensor) -> None:
        """Set the mixture from (K',), (K',L), (K',L,L) with K' <= K; the other components get weight 0.

        Raises:
            torch.linalg.LinAlgError: a covariance is not positive definite.
        """
        k = len(weights)
        factors = torch.linalg.cholesky(covariances.double())
        self.weights.zero_()[:k] = weights.to(self.weights)
        self.means.zero_()[:k] = means.to(self.means)
        self.factors.copy_(torch.eye(self.means.shape[1]))[:k] = factors.to(self.factors)

    def log_prob(self, z: Tensor) -> Tensor:
        """ln p(z) of (B,L), (B,)."""
        logs = [self._log_normal(z, k) for k in range(len(self.weights))]  # one at a time, because (B,K,L) may be large
        return torch.logsumexp(torch.stack(logs, dim=1) + self.weights.log(), dim=1)

    def sample(self, u: Tensor, eps: Tensor) -> Tensor:
        """Samples (B,L) from u (B,) uniform in [0, 1), which picks the component, and eps (B,L) standard normal."""
        edges = self.weights.cpu().double().cumsum(0)  # on the host, because not every device has float64
        edges = edges / edges[-1]
        chosen = torch.searchsorted(edges, u.to(edges), right=True).clamp(max=len(edges) - 1).to(self.means.device)
        return self.means[chosen] + (self.factors[chosen] @ eps.to(self.means)[:, :, None])[:, :, 0]

    def _log_normal(self, z: Tensor, k: int) -> Tensor:
        factor = self.factors[k]
        white = torch.linalg.solve_triangular(factor, (z - self.means[k]).mT, upper=False)
        constant = 0.5 * z.shape[1] * math.log(2 * math.pi) + factor.diagonal().log().sum()
        return -0.5 * white.square().sum(0) - constant
