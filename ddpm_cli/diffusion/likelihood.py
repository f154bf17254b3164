"""The variational bound on the log-likelihood of images, term by term."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .denoiser import Denoise
from .posterior import Posterior, Variance, posterior
from .samplers.base import Noise
from .schedule import Schedule
from .target import Prediction

HALF_BIN = 1 / 255
"""Half the distance between neighbouring values of the 256 that a pixel in [-1, 1] can have."""


@dataclass(frozen=True, eq=False)
class Bound:
    """-ln p(x0) <= L_T + sum of L_{t-1} + L_0 (Ho et al. 2020, eq. 5), in nats per dimension.

    Args:
        prior: (B,) L_T.
        terms: (B,K) the terms that were evaluated, from noise to image, the last one L_0.
        index: (B,K) int64, their numbers: term i is the step from times[i] to times[i + 1].
        count: T, the number of all terms.
    """

    prior: Tensor
    terms: Tensor
    index: Tensor
    count: int

    @property
    def denoising(self) -> Tensor:
        """(B,) the sum of L_{t-1} over t > 1; an unbiased estimate if not all terms were evaluated."""
        evaluated = self.terms.shape[1] - 1
        return self.terms[:, :-1].sum(1) * ((self.count - 1) / max(evaluated, 1))

    @property
    def reconstruction(self) -> Tensor:
        """(B,) L_0."""
        return self.terms[:, -1]

    @property
    def total(self) -> Tensor:
        """(B,) the bound."""
        return self.prior + self.denoising + self.reconstruction


def in_bits(nats: Tensor) -> Tensor:
    """nats / ln 2."""
    return nats / math.log(2)


def variational_bound(
    denoise: Denoise,
    schedule: Schedule,
    x0: Tensor,
    noise: Noise,
    times: Tensor,
    variance: Variance = "beta",
    terms: int | None = None,
) -> Bound:
    """The bound of every image, with fresh noise for each term and one call of `denoise` per term for the whole batch.

    Args:
        denoise: the model; the steps of a Markov chain depend only on x_t and t.
        x0: (B,...) in [-1, 1] on 256 levels.
        noise: also picks which terms are evaluated, for each image.
        times: (T + 1,) strictly decreasing, the last one 0, on the host; usually `schedule.times(T)`.
        variance: the variance of p(x_s | x_t).
        terms: number of terms to evaluate: always L_0, and one in each of `terms` - 1 equal parts of the others, with
            a random offset for each image. None = all.

    Raises:
        ValueError: the times do not decrease to 0, terms is out of range, or there is no learned variance.
    """
    times = times.double()
    count = len(times) - 1
    if count < 1 or float(times[-1]) != 0 or not bool((times.diff() < 0).all()):
        raise ValueError("times: must be strictly decreasing and end at 0; use schedule.times(steps)")
    if terms is not None and not min(2, count) <= terms <= count:
        raise ValueError(f"terms: must be between {min(2, count)} and {count}, the number of all terms, got {terms}")
    index = _chosen(count, count if terms is None else terms, noise, x0)
    tables = _tables(schedule, times).to(device=x0.device, dtype=x0.dtype)
    moments = times[:-1].to(device=x0.device, dtype=x0.dtype)
    shape, values = (-1, *(1,) * (x0.ndim - 1)), []
    for column, i in enumerate(index.T):
        alpha, sigma, *coefficients = (v.view(shape) for v in tables[:, i])
        x_t = alpha * x0 + sigma * noise(x0)
        # if all images have the same t, it is a scalar on the host, as in samplers
        prediction = denoise(x_t, moments[i] if index.shape[1] < count else times[column])
        last = torch.full((), column == index.shape[1] - 1, device=x0.device)
        values.append(_term(prediction, x_t, x0, Posterior(*coefficients), last, variance))
    return Bound(_prior(schedule, x0, times[0]), torch.stack(values, 1), index, count)


def _chosen(count: int, terms: int, noise: Noise, x0: Tensor) -> Tensor:
    """(B,terms) int64, ascending, the last one count - 1; each other index is equally probable."""
    if terms == count:
        return torch.arange(count, device=x0.device).expand(len(x0), -1)
    offset = torch.special.ndtr(noise(x0.flatten(1)[:, :1]))  # (B,1) uniform
    width = (count - 1) / (terms - 1)
    position = (offset + torch.arange(terms - 1, device=x0.device)) * width
    others = position.floor().long().clamp(max=count - 2)
    return torch.cat([others, torch.full_like(others[:, :1], count - 1)], 1)


def _tables(schedule: Schedule, times: Tensor) -> Tensor:
    """alpha_t, sigma_t and the `Posterior` of every term, (6,T); float64, because variances are nearly equal."""
    alpha, sigma = schedule(times)
    q = posterior(alpha[:-1], sigma[:-1], alpha[1:], sigma[1:])
    return torch.stack([alpha[:-1], sigma[:-1], *q])


def _prior(schedule: Schedule, x0: Tensor, t: Tensor) -> Tensor:
    """L_T = KL(q(x_t | x0) || N(0, max(1, sigma_1)^2 I)) at the first time, (B,); samplers start from this normal."""
    alpha, sigma = (float(v) for v in schedule(t))
    variance = max(1.0, float(schedule(torch.ones_like(t))[1])) ** 2
    ratio = sigma**2 / variance
    return 0.5 * (ratio - 1 - math.log(ratio) + alpha**2 / variance * x0.square().flatten(1).mean(1))


def bound_term(
    prediction: Prediction, x_t: Tensor, x0: Tensor, t: Tensor, s: Tensor, schedule: Schedule, variance: Variance
) -> Tensor:
    """L_s = KL(q(x_s | x_t, x0) || p(x_s | x_t)), or -ln p(x0 | x_t) where s = 0 (Ho et al. 2020, eq. 5 and 13).

    Args:
        prediction: the model's prediction from x_t.
        x_t, x0: (B,C,H,W); x0 in [-1, 1], on 256 levels if s = 0.
        t, s: (B,) with s < t.
        variance: the variance of p.

    Returns:
        (B,) nats per pixel and channel.
    """
    shape = (-1, *(1,) * (x0.ndim - 1))
    (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule(t), schedule(s)
    q = posterior(*(v.view(shape) for v in (alpha_t, sigma_t, alpha_s, sigma_s)))
    return _term(prediction, x_t, x0, q, (s == 0).view(shape), variance)


def _term(prediction: Prediction, x_t: Tensor, x0: Tensor, q: Posterior, last: Tensor, variance: Variance) -> Tensor:
    """`bound_term` for given coefficients; last: whether s = 0."""
    mean = q.of_x_t * x_t + q.of_x0 * prediction.x0
    log_p = q.log_variance(variance, prediction.variance_fraction)
    log_q = torch.log(torch.where(q.beta_tilde > 0, q.beta_tilde, 1.0))
    error = q.of_x0 * (x0 - prediction.x0)  # the difference of the two means
    kl = 0.5 * (log_p - log_q + torch.exp(log_q - log_p) + error.square() * torch.exp(-log_p) - 1)
    reconstruction = -discretized_log_normal(x0, mean, 0.5 * log_p)
    return torch.where(last, reconstruction, kl).flatten(1).mean(1)


def discretized_log_normal(x: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """ln of the mass of N(mean, std^2) on the bin of x; the outermost bins are open (Ho et al. 2020, eq. 13).

    It is exact, finite and has a finite gradient however far x is from the mean; a floor would invalidate the bound.
    """
    scale = torch.exp(-log_std)
    upper = torch.where(x > 1 - HALF_BIN, torch.inf, (x - mean + HALF_BIN) * scale)
    lower = torch.where(x < -1 + HALF_BIN, -torch.inf, (x - mean - HALF_BIN) * scale)
    flip = (upper + lower).nan_to_num() > 0  # computed in the lower tail, where differences are precise
    upper, lower = torch.where(flip, -lower, upper), torch.where(flip, -upper, lower)
    log_upper = _log_cdf(upper)
    return log_upper + torch.log(-torch.expm1((_log_cdf(lower) - log_upper).clamp(max=-1e-7)))


def _log_cdf(z: Tensor) -> Tensor:
    """ln P(Z < z) of a standard normal Z; below -5 computed with Laplace's continued fraction."""
    y = (-z).clamp(5, 1e4)
    fraction = y
    for k in range(12, 0, -1):
        fraction = y + k / fraction
    tail = -0.5 * y.square() - torch.log(fraction) - 0.5 * math.log(2 * math.pi)
    return torch.where(z < -5, tail, torch.log(0.5 * torch.erfc(-z.clamp(min=-5) / math.sqrt(2))))
