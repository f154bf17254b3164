"""How probable real images are: the variational bound, term by term."""

import math

import torch
from torch import Tensor

from .posterior import Variance, posterior
from .schedule import Schedule
from .target import Prediction

HALF_BIN = 1 / 255
"""Half the distance between neighbours of the 256 values that a pixel in [-1, 1] can have."""


def bound_term(
    prediction: Prediction, x_t: Tensor, x0: Tensor, t: Tensor, s: Tensor, schedule: Schedule, variance: Variance
) -> Tensor:
    """L_s = KL(q(x_s | x_t, x0) || p(x_s | x_t)), or -ln p(x0 | x_t) where s = 0 (Ho et al. 2020, eq. 5 and 13).

    Args:
        prediction: what the network reads in x_t.
        x_t, x0: (B,C,H,W); x0 in [-1, 1] on 256 levels where s = 0.
        t, s: (B,) with s < t.
        variance: of p.

    Returns:
        (B,) nats per pixel and channel.
    """
    shape = (-1, *(1,) * (x0.ndim - 1))
    (alpha_t, sigma_t), (alpha_s, sigma_s) = (
        tuple(v.view(shape) for v in schedule(t)),
        tuple(v.view(shape) for v in schedule(s)),
    )
    q = posterior(alpha_t, sigma_t, alpha_s, sigma_s)
    mean = q.of_x_t * x_t + q.of_x0 * prediction.x0
    log_p = q.log_variance(variance, prediction.share)
    log_q = torch.log(torch.where(q.beta_tilde > 0, q.beta_tilde, 1.0))
    error = q.of_x0 * (x0 - prediction.x0)  # the two means differ in nothing else
    kl = 0.5 * (log_p - log_q + torch.exp(log_q - log_p) + error.square() * torch.exp(-log_p) - 1)
    last = -discretized_log_normal(x0, mean, 0.5 * log_p)
    return torch.where((s > 0).view(shape), kl, last).flatten(1).mean(1)


def discretized_log_normal(x: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """ln of the mass that N(mean, std^2) puts on the bin of x, the outermost bins being open (Ho et al. 2020, eq. 13)."""
    scale = torch.exp(-log_std) / math.sqrt(2)
    upper = torch.where(x > 1 - HALF_BIN, torch.inf, (x - mean + HALF_BIN) * scale)
    lower = torch.where(x < -1 + HALF_BIN, -torch.inf, (x - mean - HALF_BIN) * scale)
    flip = (upper + lower).nan_to_num() > 0  # measured in the lower tail, where differences keep their digits
    upper, lower = torch.where(flip, -lower, upper), torch.where(flip, -upper, lower)
    mass = 0.5 * (torch.erfc(-upper) - torch.erfc(-lower))
    return torch.log(mass.clamp(min=1e-12))
