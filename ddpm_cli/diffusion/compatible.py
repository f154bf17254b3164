"""Checks that a schedule, a target and a sampler are compatible."""

import torch

from .denoiser import Denoiser
from .posterior import Variance
from .samplers.base import Sampler
from .schedule import Schedule
from .target import Epsilon, Target, V
from .zero_to_one import ZeroToOne


def check_model(model: Denoiser) -> None:
    """Raises ValueError, naming the key, unless network and target work at all times of the schedule."""
    schedule, target = model.schedule, model.target
    name = type(target).__name__.lower()
    known, steps = model.known_steps, getattr(schedule, "steps", None)
    if known is not None and known != steps:
        advice = f"set model.n_steps={steps}" if steps else "use a schedule with steps, for example schedule=linear"
        raise ValueError(
            f"model.n_steps: this network has {known} time steps, but the schedule has {steps or 'none'}; {advice}"
        )
    if getattr(model.backbone, "learned_variance", model.learned_variance) != model.learned_variance:
        raise ValueError(
            "model.learned_variance: must be the same as objective.learned_variance; set that one, which sets both"
        )
    if isinstance(target, V) and not schedule.variance_preserving:
        raise ValueError(
            "objective: v needs alpha^2 + sigma^2 = 1, which does not hold for this schedule; "
            "use objective=flow with schedule=flow, objective=edm with schedule=edm, or another schedule"
        )
    alpha, _ = schedule(torch.ones((), dtype=torch.float64))
    if float(alpha) == 0 and not target.reads_pure_noise:
        raise ValueError(
            f"objective: {name} cannot recover x0 at t = 1, where this schedule leaves no signal; use v, x0 or flow"
        )


def stretched(schedule: Schedule, target: Target) -> ZeroToOne:
    """The schedule for images in [0, 1]. Raises ValueError, naming the objective, for unsupported combinations."""
    if not isinstance(target, Epsilon):
        raise ValueError(
            "objective.zero_to_one: only works when predicting the noise; use objective=epsilon or set it to false"
        )
    if not schedule.variance_preserving:
        raise ValueError(
            "objective.zero_to_one: needs alpha^2 + sigma^2 = 1, which does not hold for this schedule; "
            "use schedule=linear or set it to false"
        )
    return ZeroToOne(schedule)


def check_sampler(model: Denoiser, sampler: Sampler) -> None:
    """Raises ValueError, naming the sampler, if it has too many steps or its variance does not fit the model."""
    try:
        sampler.length(model.schedule)
    except ValueError as error:
        raise ValueError(f"sampler.{error}") from error
    variance: Variance | None = getattr(sampler, "variance", None)
    if variance == "learned" and not model.learned_variance:
        raise ValueError(
            "sampler.variance: this model has no learned variance; use beta or beta_tilde, "
            "or train with objective.learned_variance=true"
        )
    if model.learned_variance and variance is None:
        raise ValueError(
            "sampler: this model has a learned variance, which only ddpm can use; "
            "use sampler=ddpm sampler.variance=learned"
        )
