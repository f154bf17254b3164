"""The training loop: one for every objective."""

import logging
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn

from ..data.images import Batch, Images
from ..errors import ConfigError, NonFiniteError
from ..hardware.runtime import follow_load
from ..objectives.base import Objective
from ..runs.directory import RunDirectory
from . import budget
from .course import Course
from .fitting import Statistics, equal_parts, fitted
from .meter import Meter, became
from .plan import Every, Plan
from .randomness import StepRandom, seed_step
from .rates import set_rates
from .state import TrainState
from .validation import Callbacks, measured

log = logging.getLogger(__name__)
SKIPS, SHOWN = 10, 5
"""Steps that may be skipped in a row; skipped steps that are logged."""


def train(
    objective: Objective,
    model: nn.Module,
    state: TrainState,
    data: Images,
    plan: Plan,
    run: RunDirectory,
    callbacks: Callbacks,
    seed: int,
) -> bool:
    """Train from state.step to the end of the plan, with logging, validation, samples and checkpoints.

    Returns True when the plan is done, False when a signal stopped it before that, or before its last samples; the
    state is saved either way. Raises NonFiniteError for NaN or infinity; the last good checkpoint stays the newest.

    Args:
        model: the module that the objective calls; `state` holds its weights.
        seed: together with the step, determines the batch, t, noise, dropout and flips.
    """
    device, images, course = next(model.parameters()).device, len(data), Course(plan, state, run.folder)
    rates, meter = [group["lr"] for group in state.optimizer.param_groups], Meter(device)
    pauses = _Pauses(course, run, callbacks, images, meter, model)
    run.reporter.start(state.step, course.shown_total(images))
    status = pauses.catch_up()
    model.train()
    for batch in data.batches(plan.batch_size, seed, state.step, device):
        if status.done:
            break
        factor = course.learning_rate(state.step, images)
        set_rates(state, rates, factor)
        logs = update(objective, model, state, batch, course.plan, seed)
        pauses.skipped.count(state.step, bool(logs))
        meter.add(logs, len(batch.x))
        if plan.best_by == "loss":
            state.period.add(logs)
        status = pauses.status_after_step()
        logged = plan.due(course.plan.log_every, state.step, images)
        if status.done or status.stop or logged:
            pauses.row(rates[0] * factor)
            course.warn_of_cut_off(images)
            follow_load()
        best = logged and _best_period(state, plan)
        if status.stop or not course.measured():
            pauses.take(status, best)
        else:
            status = pauses.decide(None if logged else rates[0] * factor)
        if status.stop:  # as it was before the save; a signal since then is handled after the next step
            break
    return status.done and not state.owed


class StepStatus(NamedTuple):
    """done: the plan is finished; stop: a signal arrived; late: the last save was too long ago, or one is asked for."""

    done: bool
    stop: bool
    late: bool


class _Skipped:
    """Counts the steps that `trainer.on_nan=skip` left out."""

    def __init__(self) -> None:
        self.total = self.in_a_row = 0

    def count(self, step: int, taken: bool) -> None:
        """Raises NonFiniteError after too many in a row."""
        self.in_a_row = 0 if taken else self.in_a_row + 1
        if taken:
            return
        self.total += 1
        if self.total <= SHOWN:
            log.warning("step %d: skipped, as its loss or gradient is NaN or infinite", step)
        if self.in_a_row >= SKIPS:
            raise NonFiniteError(
                f"trainer.on_nan: {SKIPS} steps in a row up to step {step} had a loss or gradient that is NaN or "
                "infinite; a checkpoint saved earlier is intact; lower optimizer.lr"
            )


class _Pauses:
    """What a run does between its steps: validation, pictures, checkpoints.

    Args:
        images: the number of training images.
    """

    def __init__(
        self, course: Course, run: RunDirectory, callbacks: Callbacks, images: int, meter: Meter, model: nn.Module
    ):
        self.course, self.state, self.run, self.callbacks = course, course.state, run, callbacks
        self.images, self.meter, self.model, self.saved = images, meter, model, course.state.seconds
        self.skipped = _Skipped()

    def status_after_step(self) -> StepStatus:
        """Update clock and progress; correct the number of steps of a run with a budget if it is time to."""
        self.run.stops.nothing_to_save = False
        self.course.tick()
        self.run.reporter.advance(self.state.step, self.state.seconds)
        if self.course.correct():
            self.run.reporter.start(self.state.step, self.course.shown_total(self.images))
        return self._status()

    def _status(self) -> StepStatus:
        plan, state = self.course.plan, self.state
        late = plan.save_seconds is not None and state.seconds - self.saved >= plan.save_seconds
        late = self.run.stops.save_requested() or late
        return StepStatus(finished(state, plan, self.images), self.run.stops.signal is not None, late)

    def row(self, rate: float) -> None:
        """Log a line with the means since the last one, and the progress of the run."""
        step = self.state.step
        epoch = round(step * self.course.plan.batch_size / self.images, 4)
        place = {"lr": rate, "epoch": epoch, "seconds": round(self.state.seconds, 3)}
        self.run.metrics(step, self.meter.row(step) | place)

    def take(self, status: StepStatus, best: bool) -> None:
        """Do what is due. best: whether this step's checkpoint is the best so far."""
        if any(status) or best or self.course.due_any(self.state.step, self.images):
            with self.meter.paused(self.state.step), self.course.excluded():
                if run_callbacks(self.state, self.course.plan, self.run, self.callbacks, self.images, status):
                    self.saved = self.state.seconds
                self.model.train()

    def catch_up(self) -> StepStatus:
        """Validate and draw the samples if they were due when a signal ended the last session."""
        status = StepStatus(finished(self.state, self.course.plan, self.images), False, False)
        if self.state.owed:
            with self.meter.paused(self.state.step), self.course.excluded():
                run_callbacks(self.state, self.course.plan, self.run, self.callbacks, self.images, status)
        self.run.stops.nothing_to_save = not status.done
        return status

    def decide(self, unlogged: float | None) -> StepStatus:
        """Decide the number of steps of a run with a budget. Does once all that takes time, to measure it.

        unlogged: the learning rate, if this step has no line yet; it gets one if the run ends here.
        """
        course, state, run, callbacks = self.course, self.state, self.run, self.callbacks
        plan, step_seconds, before = course.plan, course.step_seconds, budget.clock()
        with self.meter.paused(state.step):
            if callbacks.validate and plan.eval_every:
                run.metrics(state.step, measured(callbacks.validate, state.step) | {"seconds": round(state.seconds, 3)})
            if callbacks.sample and plan.sample_every:
                run.picture(state.step, callbacks.sample())
            run.save(state, plan.keep_last, None)
            course.tick()
            course.decide(step_seconds, budget.clock() - before)
            run.save(state, plan.keep_last, None)  # now with the decision
            self.model.train()
        self.saved = state.seconds
        run.reporter.start(state.step, course.shown_total(self.images))
        status = self._status()
        if status.done and unlogged is not None:
            self.row(unlogged)
        return status


def update(
    objective: Objective, model: nn.Module, state: TrainState, batch: Batch, plan: Plan, seed: int
) -> dict[str, Tensor]:
    """One optimizer step. Returns the batch means of what the objective logs, and the gradient norm before clipping.

    The values stay on the device. With `on_nan: skip`, a step whose values are not finite changes nothing and returns
    an empty dict.
    """
    statistics = Statistics(model, state) if plan.on_nan == "skip" else None
    logs = fitted(lambda: gradients(objective, model, state, batch, plan, seed), model, state, plan, len(batch.x))
    norm = nn.utils.get_total_norm([p.grad for p in state.parameters if p.grad is not None])
    if statistics is not None and not all(bool(value.isfinite()) for value in (norm, *logs.values())):
        state.optimizer.zero_grad()
        statistics.restore()
        state.step += 1
        return {}
    if plan.grad_clip is not None:
        nn.utils.clip_grads_with_norm_(state.parameters, plan.grad_clip, norm)
    state.optimizer.step()
    state.optimizer.zero_grad()
    if state.ema:
        state.ema.update(state.step)
    state.step += 1
    return logs | {"grad_norm": norm}


def gradients(
    objective: Objective, model: nn.Module, state: TrainState, batch: Batch, plan: Plan, seed: int
) -> dict[str, Tensor]:
    """Add the gradient of the mean loss of a batch to that of the weights. Returns the means of what is logged."""
    seed_step(seed, state.step, batch.x.device)
    size = len(batch.x)
    part = state.micro_batch(plan.micro_batch_size, size)
    logs: dict[str, Tensor] = {}
    for rows in equal_parts(size, part):
        rng = StepRandom(seed, state.step, batch.x.device, size, rows)
        loss = objective(model, Batch(batch.x[rows], batch.y[rows]), rng)
        if loss.value.device.type == "cpu" and not bool(loss.value.isfinite()):  # a GPU would have to wait for it
            if plan.on_nan == "skip":
                return {"loss": loss.value.detach()}
            raise NonFiniteError(became("loss", loss.value.item(), state.step + 1))
        if part == size:
            loss.value.backward()
            return dict(loss.logs)
        weight = (rows.stop - rows.start) / size
        (loss.value * weight).backward()
        for name, value in loss.logs.items():
            logs[name] = logs[name] + value * weight if name in logs else value * weight
    return logs


def run_callbacks(
    state: TrainState, plan: Plan, run: RunDirectory, callbacks: Callbacks, images: int, status: StepStatus
) -> bool:
    """Validate, draw samples and save, each if it is due; on a signal, only save. Returns whether it saved.

    Args:
        images: the number of training images.
    """

    def due(every: Every) -> bool:
        return plan.due(every, state.step, images)

    validate = plan.eval_every and (status.done or due(plan.eval_every))
    sample = plan.sample_every and (status.done or due(plan.sample_every))
    state.owed = status.stop and bool((validate and callbacks.validate) or (sample and callbacks.sample))
    if callbacks.validate and validate and not status.stop:
        row = measured(callbacks.validate, state.step)
        run.metrics(state.step, row | {"seconds": round(state.seconds, 3)})
        if plan.best_by_validation:
            _keep_best(state, plan, row)
    # the picture first: if the process ends after the checkpoint, the run goes on from there and does not draw it again
    if callbacks.sample and sample and not status.stop:
        run.picture(state.step, callbacks.sample())
    save = any(status) or due(plan.save_every) or state.best.get("step") == state.step
    if save:
        run.save(state, plan.keep_last, plan.best_by)
    return save


def _best_period(state: TrainState, plan: Plan) -> bool:
    """Whether the mean training loss since the last log line is the lowest so far; starts the next period.

    Not called for an extra line at the end of a session, so that an interrupted run keeps the same best checkpoint as
    an uninterrupted one.
    """
    if plan.best_by != "loss":
        return False
    means = state.period.means()
    if not means:  # every step was skipped
        return False
    _keep_best(state, plan, means)
    return bool(state.best["step"] == state.step)


def _keep_best(state: TrainState, plan: Plan, row: Mapping[str, float]) -> None:
    """Record the best checkpoint. Raises ConfigError when the objective does not log the metric of `best_by`."""
    assert plan.best_by is not None
    if plan.best_by not in row:
        metrics = " or ".join(row) or "null"
        raise ConfigError(f"trainer.best_by: this objective does not log {plan.best_by}; use {metrics}")
    value, sign = row[plan.best_by], -1 if plan.best_by == "val_accuracy" else 1
    if not state.best or sign * value < sign * state.best["value"]:
        state.best = {"step": state.step, "value": value, "by": plan.measured_by}


def finished(state: TrainState, plan: Plan, images: int) -> bool:
    """Whether all steps are done, or the time is up."""
    return state.step >= plan.length(images) or (plan.max_seconds is not None and state.seconds >= plan.max_seconds)
