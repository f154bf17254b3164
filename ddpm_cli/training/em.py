"""Fitting a Gaussian mixture by expectation maximisation: a loop of its own, as there are no gradients in it.

Each iteration begins from the module's buffers alone, so that a resumed run goes on bit for bit.
"""

import math
import time
from typing import Any

import torch
from torch import Tensor

from ..data.images import Images
from ..diffusion.ode import bits_per_dimension
from ..errors import CheckpointError, NonFiniteError
from ..models.gmm import GMM
from ..objectives.em import EM
from ..runs.checkpoint import Checkpoint, load_weights, with_prefix
from ..runs.directory import RunDirectory
from .em_steps import dequantized_images, iterate, set_basis
from .plan import Every, Plan
from .randomness import seed_of
from .validation import Callbacks

ROUNDING = 1e-8
"""By how much, relatively, a log-likelihood may fall through nothing but rounding."""


class EMState:
    """The mixture and how far EM is. `log_likelihood`: nats per image of what the module holds; None before step 1."""

    def __init__(self, module: GMM):
        self.module = module
        self.step = 0
        self.seconds = 0.0
        self.best: dict[str, Any] = {}
        self.log_likelihood: float | None = None
        self.converged = False

    def notes(self) -> dict[str, Any]:
        return {"best": self.best}

    def tensors(self) -> dict[str, Tensor]:
        """Named `model.` and `em.`, as in the checkpoint."""
        known = math.nan if self.log_likelihood is None else self.log_likelihood
        out = {f"model.{k}": v for k, v in self.module.state_dict().items()}
        out["em.log_likelihood"] = torch.tensor(known, dtype=torch.float64)
        return out | {"em.converged": torch.tensor(self.converged)}

    def load(self, checkpoint: Checkpoint) -> None:
        """Go on from `checkpoint`. Raises CheckpointError when it is of something else."""
        tensors = checkpoint.tensors()
        load_weights(self.module, with_prefix(tensors, "model."), str(checkpoint.path))
        em = with_prefix(tensors, "em.")
        if not em:
            raise CheckpointError(f"{checkpoint.path}: is no run of EM; name one of model=gmm")
        value = float(em["log_likelihood"])
        self.log_likelihood = None if math.isnan(value) else value
        self.step, self.seconds = checkpoint.step, float(checkpoint.manifest["seconds"])
        self.converged = bool(em["converged"])


def finished(state: EMState, plan: Plan) -> bool:
    """No iteration is left, the last one gained nothing, or the time is up."""
    late = plan.max_seconds is not None and state.seconds >= plan.max_seconds
    return state.converged or state.step >= plan.steps or late


def fit(
    objective: EM, state: EMState, data: Images, plan: Plan, run: RunDirectory, callbacks: Callbacks, seed: int
) -> bool:
    """E and M steps from state.step to the plan's end; each is logged and saved.

    Returns:
        True when EM is done, False when a signal asked for a stop. The state is saved either way.

    Raises:
        ConfigError: too few images, a component that shrank onto too few of them.
        NonFiniteError: the log-likelihood fell.
    """
    began = time.perf_counter() - state.seconds
    x = dequantized_images(data, objective.images, seed)
    if not state.step:
        set_basis(state.module, x)
    c, rest = state.module.coordinates(x), float(state.module.log_rest(x).mean())
    run.reporter.start(state.step, plan.steps)
    stop = False
    while not finished(state, plan) and not stop:
        before = {name: buffer.clone() for name, buffer in state.module.mixture.state_dict().items()}
        reached = iterate(state.module.mixture, c, objective.floor, seed_of(seed) % 2**32, first=not state.step) + rest
        if _must_undo(state, reached, objective):
            state.module.mixture.load_state_dict(before)
            run.save(state, plan.keep_last, None)  # it has still to say that it ended
            break
        state.step, state.log_likelihood = state.step + 1, reached
        state.seconds = time.perf_counter() - began
        stop = run.stop_signal is not None
        row = {"loss": -reached, "log_likelihood": reached, "bits_per_dim": _bits(reached, data)}
        run.metrics(state.step, row | {"seconds": round(state.seconds, 3)})
        run.save(state, plan.keep_last, None)
        if _due(plan, plan.eval_every, state.step) and callbacks.validate:
            run.metrics(state.step, callbacks.validate() | {"seconds": round(state.seconds, 3)})
        if _due(plan, plan.sample_every, state.step) and callbacks.sample:
            run.picture(state.step, callbacks.sample())
    if finished(state, plan):
        _final_callbacks(state, plan, run, callbacks)
    return finished(state, plan)


def _must_undo(state: EMState, reached: float, objective: EM) -> bool:
    """Whether an iteration is to be taken back, the state being told whether EM has converged.

    Raises NonFiniteError when the log-likelihood fell, which exact EM cannot do (Dempster et al. 1977, theorem 1).
    """
    before = state.log_likelihood
    if not math.isfinite(reached):
        raise NonFiniteError("log_likelihood: is not finite; use fewer model.components, or objective.floor=1e-5")
    if before is None:
        return False
    if reached < before - ROUNDING * abs(before):
        if not objective.floor:
            raise NonFiniteError(
                f"log_likelihood: fell from {before!r} to {reached!r} at iteration {state.step + 1}; "
                "use fewer model.components, or objective.floor=1e-5"
            )
        state.converged = True
        return True
    state.converged = reached - before < objective.tol
    return False


def _bits(log_likelihood: float, data: Images) -> float:
    return float(bits_per_dimension(torch.tensor(log_likelihood, dtype=torch.float64), math.prod(data.shape)))


def _due(plan: Plan, every: Every, step: int) -> bool:
    """An iteration is an epoch."""
    return plan.due(every, step, plan.batch_size)


def _final_callbacks(state: EMState, plan: Plan, run: RunDirectory, callbacks: Callbacks) -> None:
    if callbacks.validate and plan.eval_every and not _due(plan, plan.eval_every, state.step):
        run.metrics(state.step, callbacks.validate() | {"seconds": round(state.seconds, 3)})
    if callbacks.sample and plan.sample_every and not _due(plan, plan.sample_every, state.step):
        run.picture(state.step, callbacks.sample())
