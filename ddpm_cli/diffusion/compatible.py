"""Which schedules, targets and samplers make sense together."""

import torch

from .denoiser import Denoiser
from .posterior import Variance
from .samplers.base import Sampler
from .schedule import Schedule
from .target import Epsilon, Target, V
from .zero_to_one import ZeroToOne


def check_model(model: Denoiser) -> None:
    """Raises ValueError naming the objective when the target cannot be read at all of the schedule's times."""
    schedule, target = model.schedule, model.target
    name = type(target).__name__.lower()
    known, steps = model.known_steps, getattr(schedule, "steps", None)
    if known is not None and known != steps:
        raise ValueError(
            f"model.n_steps: this network knows {known} steps by their number, the schedule has {steps or 'none'}; "
            "use n_steps=${schedule.steps}, and a schedule with steps"
        )
    if isinstance(target, V) and not schedule.variance_preserving:
        raise ValueError(
            "objective: v means alpha^2 + sigma^2 = 1, which this schedule does not keep; "
            "use objective=flow with schedule=flow, objective=edm with schedule=edm, or another schedule"
        )
    alpha, _ = schedule(torch.ones((), dtype=torch.float64))
    if float(alpha) == 0 and not target.reads_pure_noise:
        raise ValueError(
            f"objective: {name} says nothing about x0 at t = 1, where this schedule leaves no signal; use v, x0 or flow"
        )


def stretched(schedule: Schedule, target: Target) -> ZeroToOne:
    """The schedule for images in [0, 1]. Raises ValueError naming the objective where that was not thought through."""
    if not isinstance(target, Epsilon):
        raise ValueError("objective.zero_to_one: goes with predicting the noise; use objective=epsilon, or false")
    if not schedule.variance_preserving:
        raise ValueError(
            "objective.zero_to_one: needs alpha^2 + sigma^2 = 1, which this schedule does not keep; "
            "use schedule=linear, or false"
        )
    return ZeroToOne(schedule)


def check_sampler(model: Denoiser, sampler: Sampler) -> None:
    """Raises ValueError naming the sampler when it has too many steps or needs what the model has not."""
    try:
        sampler.length(model.schedule)
    except ValueError as error:
        raise ValueError(f"sampler.{error}") from error
    variance: Variance | None = getattr(sampler, "variance", None)
    if variance == "learned" and not model.learned_variance:
        raise ValueError(
            "sampler.variance: this model has not learned one; use beta or beta_tilde, "
            "or train with objective.learned_variance=true"
        )
    if model.learned_variance and variance is None:
        raise ValueError(
            "sampler: this model has learned its variance, which only ddpm draws with; "
            "use sampler=ddpm sampler.variance=learned"
        )
