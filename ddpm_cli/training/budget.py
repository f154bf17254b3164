"""`trainer.budget`: a run that ends in time, with its learning rate at the end of its schedule.

The first steps show how fast the machine is. Then the number of steps is fixed, so that training, validation, pictures
and saving fit into the budget, and warm-up, average, and intervals follow from it. The decision is part of every
checkpoint: a resumed run repeats none of it.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..progress import duration
from .plan import Decay, Plan
from .state import TrainState

log = logging.getLogger(__name__)
clock: Callable[[], float] = time.perf_counter
"""The clock of training, in seconds."""
LEAST_STEPS, FIRST_STEPS = 24, 3
"""Steps that are measured before the decision, and steps before those, which are slower."""
SHORT, LONG = 0.03, 0.08
"""Fractions of the budget: the measurement lasts at least the first one, and at most the second one."""
CHECKS, FOR_CHECKS = 4, 0.12
"""Validations with pictures and a checkpoint before the end: at most this many, in at most this part of the budget."""
AVERAGED = 0.08
"""The average of the weights reaches at most over this part of the run."""
RESERVE = 0.004
"""Part of the budget that is left for closing files."""


@dataclass(frozen=True)
class Decision:
    """The course of a run with a budget.

    Args:
        seconds: the budget that it was made for.
        steps: the number of steps of the whole run.
        every: steps between two checks (validation, pictures, checkpoint).
        step_seconds, check_seconds: the measured duration of a step and of a check.
        ema_decay: of the average of the weights.
        warmup_steps: see `Plan`.
    """

    seconds: float
    steps: int
    every: int
    step_seconds: float
    check_seconds: float
    ema_decay: float
    warmup_steps: int

    def applied(self, plan: Plan) -> Plan:
        """The plan of the rest of the run. What is never done stays never done."""

        def often(every: Any) -> Any:
            return self.every if every else every

        log_every = min(plan.log_every, max(1, self.steps // 25)) if isinstance(plan.log_every, int) else self.every
        return replace(
            plan,
            steps=self.steps,
            epochs=None,
            warmup_steps=self.warmup_steps,
            ema=Decay(self.ema_decay, plan.ema.warmup),
            log_every=log_every,
            save_every=often(plan.save_every),
            sample_every=often(plan.sample_every),
            eval_every=often(plan.eval_every),
        )


def decide(plan: Plan, step: int, left: float, step_seconds: float, check_seconds: float) -> Decision:
    """The course of a run at `step` with `left` seconds of its budget left.

    Args:
        step_seconds, check_seconds: the measured duration of a step and of a check.
    """
    assert plan.budget_seconds is not None
    left -= check_seconds + RESERVE * plan.budget_seconds  # the run ends with a check
    checks = max(0, min(CHECKS, int(FOR_CHECKS * left / max(check_seconds, 1e-9))))
    rest = max(0.0, left - checks * check_seconds)
    steps = step + max(0, int(rest / max(step_seconds, 1e-9)))
    return Decision(
        plan.budget_seconds,
        steps,
        max(1, -(-steps // (checks + 1))),
        step_seconds,
        check_seconds,
        0.0 if plan.ema.decay == 0 else max(0.0, min(plan.ema.decay, 1 - 1 / max(AVERAGED * steps, 1))),
        min(plan.warmup_steps, max(1, steps // 10)),
    )


def opened(plan: Plan, state: TrainState) -> Plan:
    """The plan to continue with: the decision of the run; a new one if the budget has changed; or measure first."""
    if plan.budget_seconds is None:
        state.chosen.pop("budget", None)
        return plan
    if "budget" not in state.chosen:
        return plan.undecided()
    before = Decision(**state.chosen["budget"])
    if before.seconds == plan.budget_seconds:
        return _use(before, plan, state)
    left = plan.budget_seconds - state.seconds - state.lead
    new = decide(plan, state.step, left, before.step_seconds, before.check_seconds)
    if new.steps > state.step:
        _say_reopened(before, new, plan, state)
    return _use(new, plan, state)


def _use(decision: Decision, plan: Plan, state: TrainState) -> Plan:
    state.chosen["budget"] = asdict(decision)
    plan = decision.applied(plan)
    if state.ema:
        state.ema.decay = plan.ema
    return plan


def _say_reopened(before: Decision, new: Decision, plan: Plan, state: TrainState) -> None:
    """A line about the new schedule, which is a warning if the learning rate goes up."""
    old, now = (d.applied(plan).learning_rate(min(state.step, d.steps - 1), d.steps, 1) for d in (before, new))
    text = f"trainer.budget: the schedule now ends at step {new.steps:,}"
    if now > old * 1.01:
        log.warning(
            "%s; the learning rate rises again, from %.0f %% to %.0f %% of its peak", text, 100 * old, 100 * now
        )
    else:
        log.info("%s", text)


class SpeedMeasurement:
    """Measures the first steps of a session and says when that is enough."""

    def __init__(self, plan: Plan, state: TrainState):
        self.plan, self.state = plan, state
        self._first, self._since, self._began = state.step, clock(), clock()

    @property
    def step_seconds(self) -> float:
        return (clock() - self._since) / max(self.state.step - self._first, 1)

    def enough(self) -> bool:
        """To be asked after each step."""
        assert self.plan.budget_seconds is not None
        done, gone = self.state.step - self._first, clock() - self._began
        if done == FIRST_STEPS and self._since == self._began and gone < LONG * self.plan.budget_seconds / 4:
            self._first, self._since = self.state.step, clock()
            return False
        return gone >= LONG * self.plan.budget_seconds or (
            done >= LEAST_STEPS and gone >= SHORT * self.plan.budget_seconds
        )

    def decide(self, step_seconds: float, check_seconds: float) -> Plan:
        """Decide, and use the decision. Returns the plan of the rest of the run."""
        assert self.plan.budget_seconds is not None
        left = self.plan.budget_seconds - self.state.seconds - self.state.lead
        decision = decide(self.plan, self.state.step, left, step_seconds, check_seconds)
        checks = f"{-(-decision.steps // decision.every)} checks of {check_seconds:.2g} s"
        amount = f"{decision.steps:,} steps of {step_seconds:.3g} s and {checks}"
        log.info("trainer.budget: %s is enough for %s", duration(decision.seconds), amount)
        return _use(decision, self.plan, self.state)


def warn_of_cut_off(plan: Plan, state: TrainState, step_seconds: float, images: int) -> None:
    """Log a warning if `trainer.max_seconds` will end the run before its learning rate has come down."""
    total = plan.length(images)
    if plan.max_seconds is None or plan.budget_seconds is not None or plan.lr_decay != "cosine":
        return
    reached = state.step + int((plan.max_seconds - state.seconds) / max(step_seconds, 1e-9))
    rate = plan.learning_rate(min(reached, total), total, images)
    if reached < total and rate > 0.05:
        log.warning(
            "trainer.max_seconds=%g will end this run near step %d of %d, with the learning rate still at %.0f %% of "
            "its peak; trainer.budget=%g fits the schedule to the time",
            plan.max_seconds, reached, total, 100 * rate, plan.max_seconds,
        )  # fmt: skip
