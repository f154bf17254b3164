"""How the times t of a training step are drawn.

Each class returns t (B,) and a factor (B,) that corrects the loss for a non-uniform distribution, so that its
expectation stays the same. `LogNormal` and `LogitNormal` do not correct: there the distribution acts as a weighting.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from ..diffusion.schedule import Schedule
from .base import Random


class Times(Protocol):
    def draw(self, schedule: Schedule, rng: Random) -> tuple[Tensor, Tensor | None]:
        """t (B,) and the factor (B,) on the loss; None = 1."""
        ...

    def observe(self, t: Tensor, loss: Tensor, rng: Random) -> None:
        """Take note of the loss (B,) at t (B,), both detached and on the device."""
        ...


class _NonAdaptive:
    def observe(self, t: Tensor, loss: Tensor, rng: Random) -> None:
        pass


@dataclass(frozen=True)
class Uniform(_NonAdaptive):
    """All training times are equally likely (Ho et al. 2020, algorithm 1)."""

    def draw(self, schedule: Schedule, rng: Random) -> tuple[Tensor, Tensor | None]:
        return schedule.training_time(rng.uniform()), None


@dataclass(frozen=True)
class Stratified(_NonAdaptive):
    """Uniform, but image i of B draws from [i/B, (i+1)/B), which makes the loss less noisy (cf. Kingma et al. 2021)."""

    def draw(self, schedule: Schedule, rng: Random) -> tuple[Tensor, Tensor | None]:
        return schedule.training_time((rng.index() + rng.uniform()) / rng.total), None


@dataclass(frozen=True)
class LogNormal(_NonAdaptive):
    """ln(sigma / alpha) ~ N(mean, std^2) (Karras et al. 2022, table 1)."""

    mean: float = -1.2
    std: float = 1.2

    def __post_init__(self) -> None:
        _check_std(self.std)

    def draw(self, schedule: Schedule, rng: Random) -> tuple[Tensor, Tensor | None]:
        noise_level = torch.exp(self.mean + self.std * rng.normal())
        return schedule.nearest_training_time(schedule.time_of_noise_level(noise_level)), None


@dataclass(frozen=True)
class LogitNormal(_NonAdaptive):
    """logit(t) ~ N(mean, std^2) (Esser et al. 2024, eq. 19)."""

    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        _check_std(self.std)

    def draw(self, schedule: Schedule, rng: Random) -> tuple[Tensor, Tensor | None]:
        return schedule.nearest_training_time(torch.sigmoid(self.mean + self.std * rng.normal())), None


class Importance(nn.Module):
    """p(t) ~ sqrt(E[loss_t^2]), which minimises the variance of the loss (Nichol & Dhariwal 2021, eq. 18).

    The second moment is a moving average for each of `bins` equal parts of [0, 1), over the steps that drew from the
    bin, in buffers that are saved in checkpoints. Draws are uniform until every bin has had `seen` images.

    Args:
        bins: number of parts of [0, 1).
        decay: decay of the moving average.
        floor: fraction of the draws that stays uniform, so that every time is drawn now and then.
        seen: images per bin before the moments are used.
    """

    moment: Tensor
    images: Tensor
    fresh: Tensor
    fresh_images: Tensor

    def __init__(self, bins: int = 100, decay: float = 0.9, floor: float = 0.01, seen: int = 10):
        super().__init__()
        if bins < 2:
            raise ValueError(f"bins: must be at least 2, got {bins}")
        if not 0 <= decay < 1:
            raise ValueError(f"decay: must be in [0, 1), got {decay}")
        if not 0 < floor <= 1:
            raise ValueError(f"floor: must be in (0, 1], got {floor}")
        self.bins, self.decay, self.floor, self.seen = bins, decay, floor, seen
        for name in ("moment", "images", "fresh", "fresh_images"):
            self.register_buffer(name, torch.zeros(bins))
        self._last = torch.zeros(0, dtype=torch.int64)

    def probabilities(self) -> Tensor:
        """The probability of each bin, (bins,)."""
        even = torch.full_like(self.moment, 1 / self.bins)
        root = self.moment.sqrt()
        skewed = (1 - self.floor) * root / root.sum().clamp(min=1e-30) + self.floor * even
        return torch.where((self.images >= self.seen).all(), skewed, even)

    def draw(self, schedule: Schedule, rng: Random) -> tuple[Tensor, Tensor | None]:
        u = rng.uniform()
        self.to(u.device)
        if rng.first:
            self._update_moments()
        p = self.probabilities()
        edges = p.cumsum(0)
        bin_ = torch.searchsorted(edges, u * edges[-1], right=True).clamp(max=self.bins - 1)
        inside = ((u * edges[-1] - (edges[bin_] - p[bin_])) / p[bin_]).clamp(0, 1 - 2**-24)
        self._last = bin_
        return schedule.training_time((bin_ + inside) / self.bins), 1 / (p[bin_] * self.bins)

    def observe(self, t: Tensor, loss: Tensor, rng: Random) -> None:
        """Record the loss of the images of the last `draw`, without scattered sums, which are not deterministic."""
        one_hot = (self._last[:, None] == torch.arange(self.bins, device=loss.device)).float()
        self.fresh += loss.float().square() @ one_hot
        self.fresh_images += one_hot.sum(0)

    def _update_moments(self) -> None:
        """Add the previous step, all micro-batches at the same time, so that accumulation gives the same result."""
        observed = self.fresh_images > 0
        mean = self.fresh / self.fresh_images.clamp(min=1)
        old = torch.where(self.images > 0, self.moment, mean)
        self.moment.copy_(torch.where(observed, self.decay * old + (1 - self.decay) * mean, self.moment))
        self.images += self.fresh_images
        self.fresh.zero_()
        self.fresh_images.zero_()


def _check_std(std: float) -> None:
    if not 0 < std < math.inf:
        raise ValueError(f"std: must be positive, got {std}")
