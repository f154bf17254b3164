"""The likelihood of images by the probability-flow ODE, which transforms them into noise deterministically.

Its time is the angle theta = atan(sigma / alpha) and its state z = x_t / sqrt(alpha^2 + sigma^2), so that every
schedule becomes z = cos(theta) x0 + sin(theta) eps and dz / dtheta = cos(theta) eps - sin(theta) x0, which is finite
also where there is no signal (alpha = 0) or no noise (sigma = 0). Steps are evenly spaced in
tau = ln(theta / (END - theta)): logarithmically in the noise near the image, and in the signal near pure noise.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .denoiser import Denoise
from .likelihood import HALF_BIN
from .samplers.base import Noise
from .schedule import Schedule

EXACT = 64
"""Number of dimensions up to which the divergence is exact by default."""
END = math.pi / 2 + 0.03
"""The theta at which tau is infinite: slightly beyond pure noise (pi / 2), so that tau is finite there."""


def log_likelihood(
    denoise: Denoise,
    schedule: Schedule,
    x: Tensor,
    *,
    steps: int = 50,
    earliest: float | None = None,
    probes: int | None = None,
    noise: Noise | None = None,
) -> Tensor:
    """ln p(x) = ln p_1(x_1) + integral of the divergence (Song et al. 2021b, eq. 39; Chen et al. 2018, eq. 8).

    As is usual, p is the density of x_t / alpha_t at t = `earliest`, of images with hardly any noise, because networks
    are not trained at t = 0. This is a proper density, so bits computed with it are valid.

    Args:
        denoise: differentiable; called four times per step.
        x: (B,...), any real numbers.
        steps: number of steps of the classical Runge-Kutta method of order 4.
        earliest: in (0, 1); None = the earliest time that training draws.
        probes: number of random sign vectors per image that estimate the divergence, the same in all steps (Hutchinson
            1989; Grathwohl et al. 2019, eq. 7); 0 = exact, with one derivative per dimension; None = 0 up to 64
            dimensions, otherwise 1.
        noise: the source of the random signs.

    Returns:
        (B,) nats, in the dtype of x.

    Raises:
        ValueError: a number is out of range, or there are probes without `noise`.
    """
    probes = (0 if x[0].numel() <= EXACT else 1) if probes is None else probes
    first = earliest_of(schedule) if earliest is None else earliest
    _check(steps, first, probes, noise)
    signs = [torch.where(noise(x) < 0, -1.0, 1.0).to(x) for _ in range(probes)] if noise else []
    low, high = _angle(schedule, first), _angle(schedule, 1.0)
    tau = torch.linspace(_tau(low), _tau(high), 2 * steps + 1, dtype=torch.float64)  # including the middle of each step
    h = float(tau[2] - tau[0])

    def slope(z: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """d z / d tau and its divergence at tau[k]."""
        fraction = float(torch.sigmoid(tau[k]))
        theta = high if k == 2 * steps else END * fraction
        v, divergence = _velocity(denoise, schedule, z, theta, 1.0 if k == 2 * steps else None, signs)
        return END * fraction * (1 - fraction) * v, END * fraction * (1 - fraction) * divergence

    z, integral = math.cos(low) * x, torch.zeros_like(x.flatten(1)[:, 0])
    for k in range(0, 2 * steps, 2):
        z, integral = _runge_kutta(slope, z, integral, k, h)
    return _log_prior(schedule, z) + integral + x[0].numel() * math.log(math.cos(low))


Slope = Callable[[Tensor, int], tuple[Tensor, Tensor]]


def _runge_kutta(slope: Slope, z: Tensor, integral: Tensor, k: int, h: float) -> tuple[Tensor, Tensor]:
    """One step of order 4 from tau[k] to tau[k + 2], h apart."""
    v1, d1 = slope(z, k)
    v2, d2 = slope(z + h / 2 * v1, k + 1)
    v3, d3 = slope(z + h / 2 * v2, k + 1)
    v4, d4 = slope(z + h * v3, k + 2)
    z = z + h / 6 * (v1 + 2 * v2 + 2 * v3 + v4)
    return z, integral + h / 6 * (d1 + 2 * d2 + 2 * d3 + d4)


def earliest_of(schedule: Schedule) -> float:
    """The earliest time that training draws."""
    return float(schedule.nearest_training_time(torch.zeros((), dtype=torch.float64)))


def calls(steps: int) -> int:
    """The number of network calls of `log_likelihood`."""
    return 4 * steps


def dequantized(pixels: Tensor, u: Tensor) -> Tensor:
    """0..255 and u uniform in [0, 1), same shapes -> x uniform in its bin, which is 2/255 wide.

    The middle of the bin is pixel / 127.5 - 1, the value that networks are trained on (Theis et al. 2016, section 3.1).
    """
    return (pixels.to(u.dtype) + u - 0.5) / 127.5 - 1


def bits_per_dimension(log_p: Tensor, dimensions: int) -> Tensor:
    """-log2 of the probability of an image in 0..255, per dimension, from ln p at its dequantised x (B,).

    By Jensen's inequality, the mean over u of ln p(x) + D ln(2/255) is at most the logarithm of the mass of the bin.
    """
    return -(log_p / dimensions + math.log(2 * HALF_BIN)) / math.log(2)


def _check(steps: int, earliest: float, probes: int, noise: Noise | None) -> None:
    if steps < 1:
        raise ValueError(f"steps: must be at least 1, got {steps}")
    if not 0 < earliest < 1:
        raise ValueError(f"earliest: must be in (0, 1), got {earliest}")
    if probes < 0:
        raise ValueError(f"probes: must be at least 0, got {probes}")
    if probes and noise is None:
        raise ValueError("noise: must be given to draw probes; pass it or set probes=0")


def _velocity(
    denoise: Denoise, schedule: Schedule, z: Tensor, theta: float, t: float | None, signs: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """d z / d theta (B,...) and its divergence (B,). t: None = the time of theta."""
    tangent = torch.tensor(math.tan(theta), dtype=torch.float64)
    time = schedule.time_of_noise_level(tangent) if t is None else torch.tensor(t, dtype=torch.float64)
    alpha, sigma = (float(v) for v in schedule(time))
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        prediction = denoise(math.hypot(alpha, sigma) * z, time)
        v = math.cos(theta) * prediction.eps - math.sin(theta) * prediction.x0
        return v.detach(), _hutchinson(v, z, signs) if signs else _exact(v, z)


def _exact(v: Tensor, z: Tensor) -> Tensor:
    """The trace of dv/dz (B,), one derivative per dimension."""
    divergence = torch.zeros_like(v.flatten(1)[:, 0])
    for i, component in enumerate(v.flatten(1).T):
        (gradient,) = torch.autograd.grad(component.sum(), z, retain_graph=True)
        divergence = divergence + gradient.flatten(1)[:, i]
    return divergence.detach()


def _hutchinson(v: Tensor, z: Tensor, signs: Sequence[Tensor]) -> Tensor:
    """The mean of e^T (dv/dz) e over sign vectors e (B,...)."""
    products = [(torch.autograd.grad(v, z, e, retain_graph=True)[0] * e).flatten(1).sum(1) for e in signs]
    return torch.stack(products).mean(0)


def _log_prior(schedule: Schedule, z: Tensor) -> Tensor:
    """ln density of z for x_1 ~ N(0, max(1, sigma_1)^2 I), from which samplers start."""
    alpha, sigma = (float(v) for v in schedule(torch.ones((), dtype=torch.float64)))
    std = max(1.0, sigma) / math.hypot(alpha, sigma)
    return -0.5 * ((z / std).square() + math.log(2 * math.pi * std**2)).flatten(1).sum(1)


def _angle(schedule: Schedule, t: float) -> float:
    alpha, sigma = schedule(torch.tensor(t, dtype=torch.float64))
    return math.atan2(float(sigma), float(alpha))


def _tau(theta: float) -> float:
    return math.log(theta / (END - theta))
