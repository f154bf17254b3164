"""Fits a Gaussian mixture by expectation maximisation (EM). It has its own loop, because it uses no gradients.

Each iteration starts from the module's buffers alone, so that a resumed run continues bit for bit.
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
from ..runs.checkpoint import Checkpoint
from ..runs.directory import RunDirectory
from ..runs.misfits import NOT_SAVED, load_weights, understood
from ..runs.tensor_file import with_prefix
from .em_steps import dequantized_images, iterate, set_basis
from .plan import Every, Plan
from .randomness import seed_of
from .validation import Callbacks, measured

ROUNDING = 1e-8
"""The largest relative fall of a log-likelihood that rounding alone can cause."""


class EMState:
    """The mixture and the progress of EM. `log_likelihood`: of the current mixture, nats per image; None at step 0."""

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
        log_likelihood = math.nan if self.log_likelihood is None else self.log_likelihood
        out = {f"model.{k}": v for k, v in self.module.state_dict().items()}
        out["em.log_likelihood"] = torch.tensor(log_likelihood, dtype=torch.float64)
        return out | {"em.converged": torch.tensor(self.converged)}

    def load(self, checkpoint: Checkpoint) -> None:
        """Resume from `checkpoint`. Raises CheckpointError when it holds another kind of model."""
        tensors = checkpoint.tensors()
        load_weights(self.module, with_prefix(tensors, "model."), str(checkpoint.path))
        em = with_prefix(tensors, "em.")
        if not em:
            raise CheckpointError(f"{checkpoint.path}: is not a Gaussian mixture; name a run of model=gmm")
        with understood(checkpoint.path, NOT_SAVED):
            value = float(em["log_likelihood"])
            self.log_likelihood = None if math.isnan(value) else value
            self.step, self.seconds = checkpoint.step, float(checkpoint.manifest["seconds"])
            self.converged = bool(em["converged"])


def finished(state: EMState, plan: Plan) -> bool:
    """Whether no iterations are left, EM has converged, or the time is up."""
    late = plan.max_seconds is not None and state.seconds >= plan.max_seconds
    return state.converged or state.step >= plan.steps or late


def fit(
    objective: EM, state: EMState, data: Images, plan: Plan, run: RunDirectory, callbacks: Callbacks, seed: int
) -> bool:
    """Run EM from state.step to the end of the plan; every iteration is logged and saved.

    Returns:
        True when EM is done, False when a signal stopped it. The state is saved either way.

    Raises:
        ConfigError: too few images, a component that collapsed onto too few of them.
        NonFiniteError: the log-likelihood fell.
    """
    began = time.perf_counter() - state.seconds
    x = dequantized_images(data, objective.images, seed)
    if not state.step:
        set_basis(state.module, x)
    c, rest = state.module.coordinates(x), float(state.module.log_rest(x).mean())
    if not bool(c.isfinite().all()) or not math.isfinite(rest):
        raise NonFiniteError(
            "images: a value is NaN or infinite; a checkpoint saved earlier is intact; check dataset.root"
        )
    run.reporter.start(state.step, plan.steps)
    stop = False
    while not finished(state, plan) and not stop:
        before = {name: buffer.clone() for name, buffer in state.module.mixture.state_dict().items()}
        new = iterate(state.module.mixture, c, objective.floor, seed_of(seed) % 2**32, first=not state.step) + rest
        if _must_undo(state, new, objective):
            state.module.mixture.load_state_dict(before)
            _final_callbacks(state, plan, run, callbacks)
            run.save(state, plan.keep_last, None)  # to record that it has converged
            break
        state.step, state.log_likelihood = state.step + 1, new
        state.seconds = time.perf_counter() - began
        stop = run.stops.signal is not None
        row = {"loss": -new, "log_likelihood": new, "bits_per_dim": _bits(new, data)}
        run.metrics(state.step, row | {"seconds": round(state.seconds, 3)})
        if _due(plan, plan.eval_every, state.step) and callbacks.validate:
            run.metrics(state.step, measured(callbacks.validate, state.step) | {"seconds": round(state.seconds, 3)})
        if _due(plan, plan.sample_every, state.step) and callbacks.sample:
            run.picture(state.step, callbacks.sample())
        if finished(state, plan):
            _final_callbacks(state, plan, run, callbacks)
        run.save(state, plan.keep_last, None)  # last: a run that goes on from here draws no picture of this step
    return finished(state, plan)


def _must_undo(state: EMState, new: float, objective: EM) -> bool:
    """Whether to discard an iteration that reached log-likelihood `new`. Sets state.converged.

    Raises NonFiniteError when the log-likelihood fell, which exact EM cannot do (Dempster et al. 1977, theorem 1).
    """
    before = state.log_likelihood
    if not math.isfinite(new):
        raise NonFiniteError("log_likelihood: is not finite; use fewer model.components, or objective.floor=1e-5")
    if before is None:
        return False
    if new < before - ROUNDING * abs(before):
        if not objective.floor:
            raise NonFiniteError(
                f"log_likelihood: fell from {before!r} to {new!r} at iteration {state.step + 1}; "
                "use fewer model.components, or objective.floor=1e-5"
            )
        state.converged = True
        return True
    state.converged = new - before < objective.tol
    return False


def _bits(log_likelihood: float, data: Images) -> float:
    return float(bits_per_dimension(torch.tensor(log_likelihood, dtype=torch.float64), math.prod(data.shape)))


def _due(plan: Plan, every: Every, step: int) -> bool:
    """Every iteration is an epoch."""
    return plan.due(every, step, plan.batch_size)


def _final_callbacks(state: EMState, plan: Plan, run: RunDirectory, callbacks: Callbacks) -> None:
    if callbacks.validate and plan.eval_every and not _due(plan, plan.eval_every, state.step):
        run.metrics(state.step, measured(callbacks.validate, state.step) | {"seconds": round(state.seconds, 3)})
    if callbacks.sample and plan.sample_every and not _due(plan, plan.sample_every, state.step):
        run.picture(state.step, callbacks.sample())
