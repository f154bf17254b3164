"""`trainer.budget`: a run that ends in time, with its learning rate at the end of its schedule.

The first steps show how fast the machine is. Then the number of steps is decided, so that training, validation,
pictures and saving fit into the budget, and warm-up, average and intervals follow from it. As the speed of a machine
changes, the number of steps is corrected a few times; the schedule continues from where it is. Every decision is in
RUN/budget.json and in the checkpoints, and a resumed run repeats it instead of measuring, so that it is bit for bit
the run that was interrupted.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from .plan import Decay, Plan
from .state import TrainState

clock: Callable[[], float] = time.perf_counter
"""The clock of training, in seconds."""
CORRECTIONS = 12
"""The number of steps is corrected at most this often."""
CHECKS, FOR_CHECKS = 4, 0.12
"""Validations with pictures and a checkpoint before the end: at most this many, in at most this part of the budget."""
AVERAGED = 0.08
"""The average of the weights reaches at most over this part of the run."""
RESERVE = 0.004
"""Part of the budget that is left for closing files."""


@dataclass(frozen=True)
class Decision:
    """The course of a run with a budget, from a step on.

    Args:
        seconds: the budget that it was made for.
        at: the step from which it applies.
        steps: the number of steps of the whole run.
        every: steps between two checks (validation, pictures, checkpoint).
        corrected_every: steps between two corrections.
        progress: the part of the learning rate's decay that was done at the step `at`.
        step_seconds, check_seconds: the measured duration of a step and of a check.
        ema_decay: of the average of the weights.
        warmup_steps: see `Plan`.
    """

    seconds: float
    at: int
    steps: int
    every: int
    corrected_every: int
    progress: float
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

    def progress_at(self, step: int) -> float:
        """The part of the decay that is done at `step`, in [0, 1]: linear from `progress` at `at` to 1 at the end."""
        gone = max(0, step - self.at) / max(self.steps - self.at, 1)
        return min(1.0, self.progress + (1 - self.progress) * gone)

    def position(self, step: int) -> float:
        """The step at which a run that always had this number of steps would have made the same progress."""
        if step < self.warmup_steps:
            return step
        return self.warmup_steps + self.progress_at(step) * (self.steps - self.warmup_steps)

    def corrected(self, step: int, left: float, step_seconds: float) -> "Decision":
        """The decision of a run at `step` with `left` seconds left.

        Args:
            step_seconds: measured since the last decision. It counts half, as a machine may be slow for a while only.
        """
        step_seconds = (step_seconds + self.step_seconds) / 2
        rest = left - self.checks_after(step) * self.check_seconds - RESERVE * self.seconds
        steps = step + max(1, round(rest / max(step_seconds, 1e-9)))
        return replace(self, at=step, steps=steps, progress=self.progress_at(step), step_seconds=step_seconds)

    def checks_after(self, step: int) -> int:
        """The number of checks after `step`, with the one at the end."""
        return 1 + sum(self.checks_at(s) for s in range((step // self.every + 1) * self.every, self.steps, self.every))

    def checks_at(self, step: int) -> bool:
        """Whether there is a check at `step` before the end, but not right before it."""
        return step % self.every == 0 and self.steps - step > self.every / 2


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
    warmup = min(plan.warmup_steps, max(1, steps // 10)) if plan.warmup_steps else 0
    return Decision(
        seconds=plan.budget_seconds,
        at=warmup,
        steps=steps,
        every=max(1, -(-steps // (checks + 1))),
        corrected_every=max(1, steps // CORRECTIONS),
        progress=0.0,
        step_seconds=step_seconds,
        check_seconds=check_seconds,
        ema_decay=0.0 if plan.ema.decay == 0 else max(0.0, min(plan.ema.decay, 1 - 1 / max(AVERAGED * steps, 1))),
        warmup_steps=warmup,
    )


def use(decision: Decision, plan: Plan, state: TrainState) -> Plan:
    """Keep the decision in the state. Returns the plan that follows from it."""
    state.chosen["budget"] = asdict(decision)
    plan = decision.applied(plan)
    if state.ema:
        state.ema.decay = plan.ema
    return plan
