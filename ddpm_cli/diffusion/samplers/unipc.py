"""UniPC: a predictor, and a corrector that needs no further network call."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..denoiser import Denoise
from ..schedule import Schedule
from .base import Frame, Noise, Stepper


class _Point(NamedTuple):
    """lambda = ln(alpha / sigma) and the network's x0 there."""

    log_snr: Tensor
    x0: Tensor


@dataclass(frozen=True, kw_only=True)
class UniPC(Stepper):
    """UniPC in its x0 form with B(h) = e^h - 1 (Zhao et al. 2023, algorithms 1 and 2 and appendix: "UniPC_bh2").

    The predictor steps from t to s with x0 at t and at earlier times; after the network call at s, the corrector
    repeats the step with that x0 as well. The first and the last steps have a lower order.

    Args:
        order: order of the predictor, 1 to 3; the corrector adds one.
    """

    order: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.order not in (1, 2, 3):
            raise ValueError(f"order: must be 1, 2 or 3, got {self.order}")

    def __call__(self, denoise: Denoise, schedule: Schedule, x: Tensor, noise: Noise) -> Iterator[Frame]:
        times = self.times(schedule)
        steps = len(times) - 1
        known: list[_Point] = []
        origin, order = x, 0
        for i in range(steps):
            t, s = times[i], times[i + 1]
            alpha_t, sigma_t = schedule(t)
            current = _Point(torch.log(alpha_t) - torch.log(sigma_t), self.predict(denoise, x, t, alpha_t, sigma_t).x0)
            if order and bool(known[-1].log_snr.isfinite()):
                x = _step(origin, schedule, times[i - 1], t, known, order, current)
            yield Frame(float(t), x, current.x0)
            known = [*known, current][-self.order :]
            finite = sum(bool(p.log_snr.isfinite()) for p in known)
            order = min(self.order, steps - i, max(finite, 1))
            origin = x
            x = _step(origin, schedule, t, s, known, order)
        yield Frame(0.0, x, x)


def _step(
    x: Tensor, schedule: Schedule, t: Tensor, s: Tensor, known: list[_Point], order: int, ahead: _Point | None = None
) -> Tensor:
    """x_s from x_t: sigma_s / sigma_t x - alpha_s (e^-h - 1) (x0 + sum_k rho_k D_k), D_k = (x0_k - x0) / r_k.

    Args:
        known: points up to t, of which the last `order` are used.
        ahead: the point at s, for the corrector.
    """
    (_, sigma_t), (alpha_s, sigma_s) = schedule(t), schedule(s)
    last = known[-1]
    h = torch.log(alpha_s) - torch.log(sigma_s) - last.log_snr
    others = [(((p.log_snr - last.log_snr) / h), p.x0) for p in reversed(known[:-1][len(known) - order :])]
    if ahead is not None:
        others.append((torch.ones_like(h), ahead.x0))
    change = torch.zeros_like(x)
    for rho, (r, x0) in zip(_coefficients([r for r, _ in others], h), others, strict=True):
        change = change + rho * (x0 - last.x0) / r
    return sigma_s / sigma_t * x - alpha_s * torch.expm1(-h) * (last.x0 + change)


def _coefficients(ratios: list[Tensor], h: Tensor) -> list[Tensor]:
    """rho that solve sum_k rho_k r_k^(n-1) = n! phi_(n+1)(-h) (-h) / (e^-h - 1), n = 1..K (Zhao et al. 2023, eq. 5).

    For K = 1 the method uses 1/2, the limit for small steps, which keeps the order.
    """
    if len(ratios) < 2:
        return [torch.full_like(h, 0.5) for _ in ratios]
    r = torch.stack(ratios)
    matrix = torch.stack([r**n for n in range(len(ratios))])
    whole = torch.expm1(-h)
    phi, factorial, right = whole / -h - 1, 1.0, []
    for n in range(1, len(ratios) + 1):
        right.append(phi * factorial / whole)
        factorial *= n + 1
        phi = phi / -h - 1 / factorial
    return list(torch.linalg.solve(matrix, torch.stack(right)))
