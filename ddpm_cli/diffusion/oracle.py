"""The exact denoiser of a Gaussian mixture, against which samplers, guidance and likelihoods are tested.

With x_0 ~ sum_k w_k N(mu_k, S_k), x_t ~ sum_k w_k N(alpha mu_k, alpha^2 S_k + sigma^2 I), so score, E[x_0 | x_t] and
class posteriors have closed forms. K components, D dimensions; images (B,C,H,W) are flattened to D = CHW.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .schedule import Schedule
from .target import Prediction


@dataclass(frozen=True, eq=False)
class GaussianMixture:
    """weights (K,) summing to 1, means (K,D), covariances (K,D,D), all float64.

    Raises:
        ValueError: the shapes do not fit, the weights are not a distribution, or a covariance is not positive.
    """

    weights: Tensor
    means: Tensor
    covariances: Tensor

    def __post_init__(self) -> None:
        k, d = self.means.shape
        if self.weights.shape != (k,) or self.covariances.shape != (k, d, d):
            raise ValueError(f"means: with shape ({k},{d}), weights must be ({k},) and covariances ({k},{d},{d})")
        if bool((self.weights < 0).any()) or abs(float(self.weights.sum()) - 1) > 1e-6:
            raise ValueError("weights: must be at least 0 and sum to 1")
        if bool((self._eigen[0] < 0).any()):
            raise ValueError("covariances: must be positive semi-definite")

    @classmethod
    def of(cls, weights: Sequence[float], means: Sequence[Sequence[float]], stds: Sequence[float]) -> "GaussianMixture":
        """A mixture of isotropic components with standard deviations (K,)."""
        mean = torch.tensor(means, dtype=torch.float64)
        eye = torch.eye(mean.shape[1], dtype=torch.float64)
        variances = torch.tensor(stds, dtype=torch.float64).square()
        return cls(torch.tensor(weights, dtype=torch.float64), mean, variances[:, None, None] * eye)

    @property
    def mean(self) -> Tensor:
        """The mean of the mixture, (D,)."""
        return self.weights @ self.means

    @property
    def covariance(self) -> Tensor:
        """The covariance of the mixture, (D,D): within plus between the components."""
        offsets = self.means - self.mean
        return torch.einsum("k,kij->ij", self.weights, self.covariances + offsets[:, :, None] * offsets[:, None, :])

    @cached_property
    def _eigen(self) -> tuple[Tensor, Tensor]:
        """S_k = U diag(e) U^T, from which (alpha^2 S + sigma^2 I)^-1 is cheap at every time."""
        values, vectors = torch.linalg.eigh(self.covariances)
        return values, vectors

    def only(self, components: Sequence[int]) -> "GaussianMixture":
        """The mixture of these components alone, renormalised: the distribution of a class."""
        index = torch.tensor(list(components))
        weights = self.weights[index]
        return GaussianMixture(weights / weights.sum(), self.means[index], self.covariances[index])

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """(n,D) exact samples."""
        k = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        z = torch.randn(n, self.means.shape[1], generator=generator, dtype=torch.float64)
        values, vectors = self._eigen
        return self.means[k] + torch.einsum("nij,nj->ni", vectors[k], values[k].sqrt() * z)

    def log_components(self, x: Tensor, alpha: float | Tensor = 1.0, sigma: float | Tensor = 0.0) -> Tensor:
        """ln w_k N(x; alpha mu_k, alpha^2 S_k + sigma^2 I), (B,K). alpha, sigma: numbers, or (B,)."""
        _, rotated, variances = self._rotated(x, alpha, sigma)
        return self._log_normals(rotated, variances)

    def log_prob(self, x: Tensor, alpha: float | Tensor = 1.0, sigma: float | Tensor = 0.0) -> Tensor:
        """ln p_t(x), (B,)."""
        return self.log_components(x, alpha, sigma).logsumexp(1)

    def score(self, x: Tensor, alpha: float | Tensor = 1.0, sigma: float | Tensor = 0.0) -> Tensor:
        """grad_x ln p_t(x), (B,D)."""
        vectors, rotated, variances = self._rotated(x, alpha, sigma)
        responsibilities = self._log_normals(rotated, variances).softmax(1)
        return -torch.einsum("bk,kij,bkj->bi", responsibilities, vectors, rotated / variances)

    def _log_normals(self, rotated: Tensor, variances: Tensor) -> Tensor:
        """ln w_k N from the results of `_rotated`, (B,K)."""
        squares = (rotated.square() / variances + torch.log(2 * math.pi * variances)).sum(2)
        return torch.log(self.weights) - 0.5 * squares

    def _rotated(self, x: Tensor, alpha: float | Tensor, sigma: float | Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """U (K,D,D), U^T (x - alpha mu) (B,K,D) and the variances along U (B or 1,K,D)."""
        values, vectors = self._eigen
        a, s = (torch.as_tensor(v, dtype=x.dtype).reshape(-1, 1, 1) for v in (alpha, sigma))
        offsets = x[:, None] - a * self.means
        return vectors, torch.einsum("kji,bkj->bki", vectors, offsets), a.square() * values.clamp(min=0) + s.square()


@dataclass(frozen=True, eq=False)
class Oracle:
    """The Denoise of a mixture: E[x_0 | x_t] = (x_t + sigma^2 score) / alpha, exact, computed in float64.

    Where alpha = 0, x_0 is the mean of the mixture.
    """

    mixture: GaussianMixture
    schedule: Schedule

    def __call__(self, x_t: Tensor, t: Tensor) -> Prediction:
        x = x_t.flatten(1).double()
        alpha, sigma = (v.double() for v in self.schedule(t.double()))
        eps = -sigma.reshape(-1, 1) * self.mixture.score(x, alpha, sigma)
        no_signal, divisor = (alpha == 0).reshape(-1, 1), torch.where(alpha == 0, 1.0, alpha).reshape(-1, 1)
        x0 = torch.where(no_signal, self.mixture.mean, (x - sigma.reshape(-1, 1) * eps) / divisor)
        return Prediction(x0.view_as(x_t).to(x_t.dtype), eps.view_as(x_t).to(x_t.dtype))
