"""The denoising loss."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..diffusion.compatible import check_model, stretched
from ..diffusion.denoiser import Denoiser
from ..diffusion.likelihood import bound_term
from ..diffusion.schedule import Schedule
from ..diffusion.target import Target
from .base import LabelledBatch, Loss, Random
from .networks import check_denoiser
from .times import Times, Uniform
from .weighting import Simple, Weighting


@dataclass(frozen=True)
class Denoising:
    """E_{t, x0, eps} w_t |target - network(x_t, t)|^2, the mean over pixels (Ho et al. 2020, eq. 14, where w_t = 1).

    With `learned_variance`, plus `bound_weight` T L_t, the variational bound in nats per pixel, its mean held fixed:
    L_hybrid of Nichol & Dhariwal 2021, eq. 16.

    Args:
        target: what the network regresses; the same object interprets its output when sampling.
        weighting: the weight of each noise level.
        times: how t is drawn. Validation always draws it uniformly, so that runs can be compared.
        label_dropout: fraction of the images whose class is hidden, for classifier-free guidance (Ho & Salimans 2022).
        learned_variance: the network also predicts the variance of each step.
        bound_weight: lambda of L_hybrid.
        zero_to_one: diffuse images in [0, 1] instead of [-1, 1], as the annotated DDPM does; see `ZeroToOne`.

    Raises:
        ValueError: a field is out of range; the message starts with its name.
    """

    target: Target
    weighting: Weighting = field(default_factory=Simple)
    times: Times = field(default_factory=Uniform)
    label_dropout: float = 0.1
    learned_variance: bool = False
    bound_weight: float = 0.001
    zero_to_one: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.label_dropout <= 1:
            raise ValueError(f"label_dropout: must be in [0, 1], got {self.label_dropout}")
        if self.bound_weight < 0:
            raise ValueError(f"bound_weight: must be at least 0, got {self.bound_weight}")

    def wrap(self, module: nn.Module, schedule: Schedule, autocast: torch.dtype | None = None) -> Denoiser:
        """Raises ValueError, naming the objective, for a network or a schedule that does not fit."""
        check_denoiser(module)
        if self.zero_to_one:
            schedule = stretched(schedule, self.target)
        model = Denoiser(module, schedule, self.target, autocast, self.learned_variance)
        check_model(model)
        return model

    def __call__(self, model: nn.Module, batch: LabelledBatch, rng: Random) -> Loss:
        assert isinstance(model, Denoiser)
        x0, times = batch.x, self.times if model.training else Uniform()
        t, factor = times.draw(model.schedule, rng)
        eps = rng.normal(*x0.shape[1:])
        alpha, sigma = model.alpha_sigma(t, x0.ndim)
        x_t = alpha * x0 + sigma * eps
        y = self._labels(batch.y, rng) if model.training and self.label_dropout else batch.y
        out = model.output(x_t, t, y, self._x0_estimate(model, x_t, t, y, rng))
        weight = self.weighting(alpha, sigma, self.target.gain(alpha, sigma))
        error = out.target - self.target.compute(x0, eps, alpha, sigma)
        loss = (weight * error.square()).flatten(1).mean(1)
        logs: dict[str, Tensor] = {}
        if out.variance_fraction is not None:
            prediction = self.target.invert(out.target.detach(), x_t, alpha, sigma)
            prediction = prediction._replace(variance_fraction=out.variance_fraction)
            steps = getattr(model.schedule, "steps", 1000)
            bound = bound_term(prediction, x_t, x0, t, (t - 1 / steps).clamp(min=0), model.schedule, "learned")
            logs["bound"] = bound.mean().detach()
            loss = loss + self.bound_weight * steps * bound
        if model.training:
            times.observe(t, loss.detach(), rng)
        value = (loss if factor is None else loss * factor).mean()
        return Loss(value, {"loss": value.detach(), **logs})

    def _labels(self, y: Tensor, rng: Random) -> Tensor:
        """The labels (B,), a random fraction of them replaced by -1, which means no label."""
        return torch.where(rng.uniform() < self.label_dropout, -1, y)

    def _x0_estimate(self, model: Denoiser, x_t: Tensor, t: Tensor, y: Tensor, rng: Random) -> Tensor | None:
        """The network's x0 estimate in half of the steps, without gradient (Chen et al. 2022, algorithm 1)."""
        if not model.self_condition or (model.training and rng.coin()):
            return None
        with torch.no_grad():
            return model(x_t, t, y).x0
