"""The course of a run while it trains: with a budget, it measures, decides and corrects its number of steps."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ..files import read_sealed, shown, write_sealed
from ..progress import duration, plural
from ..runs.logs import LOST
from . import budget
from .budget import Decision, decide, use
from .plan import UNKNOWN, Plan
from .state import TrainState

log = logging.getLogger(__name__)
FILE = "budget.json"
LEAST_STEPS, FIRST_STEPS = 24, 3
"""Steps that are measured before the decision, and steps before those, which are slower."""
SHORT, LONG = 0.03, 0.08
"""Parts of the budget: the measurement lasts at least the first one, and at most the second one."""
WORTH_SAYING = 0.1
"""A correction is logged if the number of steps changes by this part since it was last said."""


def opened(plan: Plan, state: TrainState, folder: Path) -> Plan:
    """The plan to continue with: the decision of the run; a new one if the budget has changed; or measure first.

    Args:
        folder: of the run. A new decision is kept there, so that it is the same if the run is killed before it saves.
    """
    if plan.budget_seconds is None:
        if kept := state.chosen.pop("budget", None):
            _say_without_budget(Decision(**kept), plan, state.step)
        return plan
    if "budget" not in state.chosen:
        return plan.undecided()
    before = Decision(**state.chosen["budget"])
    if before.seconds == plan.budget_seconds:
        return use(before, plan, state)
    kept = _read(folder / FILE)
    known = _of(kept, plan.budget_seconds).get(state.step)
    left = plan.budget_seconds - state.seconds - state.lead
    new = known or decide(plan, state.step, left, state.seconds / max(state.step, 1), before.check_seconds)
    if new.steps > state.step:
        _say_reopened(before, new, plan, state)
        _write(folder / FILE, kept | {state.step: new})
    return use(new, plan, state)


def _say_without_budget(before: Decision, plan: Plan, step: int) -> None:
    """A warning if the learning rate goes up because the run has no budget any more."""
    decayed = replace(before.applied(plan), lr_decay="cosine")  # as with a budget, unless the user has chosen another
    was = decayed.learning_rate(min(before.position(step), before.steps - 1), before.steps, 1)
    now = plan.learning_rate(step, plan.steps, 1) if plan.epochs is None else 0.0
    if now > was * 1.01:
        text = "is not set any more; the learning rate rises again, from %.0f %% to %.0f %% of its peak"
        log.warning(f"trainer.budget: {text}", 100 * was, 100 * now)


def _say_reopened(before: Decision, new: Decision, plan: Plan, state: TrainState) -> None:
    """A line about the new schedule, which is a warning if the learning rate goes up."""
    old, now = (
        d.applied(plan).learning_rate(min(d.position(state.step), d.steps - 1), d.steps, 1) for d in (before, new)
    )
    text = f"trainer.budget: the schedule now ends at step {new.steps:,}"
    if now > old * 1.01:
        rates = f"from {old:.0%} to {now:.0%} of its peak"
        log.warning("%s; the learning rate rises again, %s", text, rates)
    else:
        log.info("%s", text)


class Course:
    """The plan of a run while it trains, with or without a budget.

    Args:
        plan: as returned by `opened`.
        folder: the run's own, in which the decisions are kept.
    """

    def __init__(self, plan: Plan, state: TrainState, folder: Path):
        self.plan, self.state, self.file = plan, state, folder / FILE
        self._first, self._since, self._began, self._excluded = state.step, budget.clock(), budget.clock(), 0.0
        self._written = True
        self._warned, self._zero = False, budget.clock() - state.seconds
        kept = state.chosen.get("budget")
        self.decision = Decision(**kept) if kept and self.decided else None
        self._said = self.decision.steps if self.decision else 0
        self._all = _read(self.file) if plan.budget_seconds is not None else {}
        self._known = _of(self._all, plan.budget_seconds)

    @property
    def decided(self) -> bool:
        return self.plan.steps != UNKNOWN or self.plan.epochs is not None

    @property
    def step_seconds(self) -> float:
        """The duration of a step, without checks, since the last decision."""
        return (budget.clock() - self._since - self._excluded) / max(self.state.step - self._first, 1)

    def learning_rate(self, step: int, images: int) -> float:
        """See `Plan.learning_rate`."""
        position = self.decision.position(step) if self.decision else step
        return self.plan.learning_rate(position, self.plan.length(images), images)

    def shown_total(self, images: int) -> int:
        """The number of steps, 0 while it is unknown."""
        return self.plan.length(images) if self.decided else 0

    def tick(self) -> None:
        """Set state.seconds, all training of all sessions."""
        self.state.seconds = budget.clock() - self._zero

    @contextmanager
    def excluded(self) -> Iterator[None]:
        """The time inside the context counts as a check, not as steps."""
        before = budget.clock()
        yield
        self._excluded += budget.clock() - before

    def due_any(self, step: int, images: int) -> bool:
        """Whether a checkpoint, samples or a validation is due at this step."""
        plan, decision = self.plan, self.decision
        if not self.decided or (decision is not None and not decision.checks_at(step)):
            return False
        return any(plan.due(every, step, images) for every in (plan.save_every, plan.sample_every, plan.eval_every))

    def measured(self) -> bool:
        """Whether to decide now. To be asked after each step."""
        if self.decided or self.plan.budget_seconds is None:
            return False
        if any(step <= self.state.step for step in self._known):
            return True
        done, gone = self.state.step - self._first, budget.clock() - self._began
        if done == FIRST_STEPS and self._since == self._began and gone < LONG * self.plan.budget_seconds / 4:
            self._first, self._since = self.state.step, budget.clock()
            return False
        enough = done >= LEAST_STEPS and gone >= SHORT * self.plan.budget_seconds
        return enough or gone >= LONG * self.plan.budget_seconds

    def decide(self, step_seconds: float, check_seconds: float) -> None:
        """Decide the number of steps, or repeat the decision that the run made here before."""
        known = self._known.get(self.state.step)
        new = known or decide(self.plan, self.state.step, self._left, step_seconds, check_seconds)
        checks = f"{plural(new.checks_after(self.state.step), 'check')} of {check_seconds:.2g} s"
        amount = f"about {new.steps:,} steps of {step_seconds:.3g} s and {checks}"
        log.info("trainer.budget: %s is enough for %s", duration(new.seconds), amount)
        self._said = new.steps
        self._take(new)

    def correct(self) -> bool:
        """Correct the number of steps if it is time to, or repeat a correction. Returns whether it has changed."""
        decision, step = self.decision, self.state.step
        if decision is None or step >= decision.steps:
            return False
        new = self._known.get(step)
        if new is None:
            if step % decision.corrected_every or step == self._first or any(s > step for s in self._known):
                return False
            new = decision.corrected(step, self._left, self.step_seconds)
        said = self._said or decision.steps
        if abs(new.steps / said - 1) >= WORTH_SAYING:
            faster = "faster" if new.steps > said else "slower"
            log.info("trainer.budget: steps have become %s; the run now ends at step %s", faster, f"{new.steps:,}")
            self._said = new.steps
        self._take(new)
        return True

    def warn_of_cut_off(self, images: int) -> None:
        """Log a warning, once, if `trainer.max_seconds` will end the run before its learning rate has come down."""
        plan, state, total = self.plan, self.state, self.plan.length(images)
        if self._warned or plan.max_seconds is None or plan.budget_seconds is not None or plan.lr_decay != "cosine":
            return
        self._warned = True
        reached = state.step + int((plan.max_seconds - state.seconds) / max(self.step_seconds, 1e-9))
        rate = plan.learning_rate(min(reached, total), total, images)
        if reached < total and rate > 0.05:
            log.warning(
                "trainer.max_seconds=%g will end this run near step %d of %d, with the learning rate still at %.0f %% "
                "of its peak; trainer.budget=%g fits the schedule to the time",
                plan.max_seconds, reached, total, 100 * rate, plan.max_seconds,
            )  # fmt: skip

    @property
    def _left(self) -> float:
        assert self.plan.budget_seconds is not None
        return self.plan.budget_seconds - self.state.seconds - self.state.lead

    def _take(self, new: Decision) -> None:
        self._known[self.state.step] = self.decision = new
        self.plan = use(new, self.plan, self.state)
        self._all[self.state.step] = new
        self._written = _write(self.file, self._all, warn=self._written)  # one warning is enough
        self._first, self._since, self._excluded = self.state.step, budget.clock(), 0.0


def _write(file: Path, decisions: Mapping[int, Decision], warn: bool = True) -> bool:
    """Keep decisions by the step at which they were made, also for other budgets. Returns whether that worked."""
    try:
        write_sealed(file, {str(step): asdict(decision) for step, decision in sorted(decisions.items())})
    except OSError as error:  # the checkpoints have the last decision
        if warn:
            log.warning(LOST, shown(file), error.strerror)
        return False
    return True


def _read(file: Path) -> dict[int, Decision]:
    """The decisions that the run made, by step."""
    try:
        return {int(step): Decision(**node) for step, node in read_sealed(file).items() if step != "digest"}
    except FileNotFoundError:
        return {}
    except OSError as error:
        log.warning("%s: cannot be read (%s); the number of steps is decided again", shown(file), error.strerror)
        return {}
    except (ValueError, TypeError, AttributeError):
        log.warning("%s: is damaged; the number of steps is decided again, from the speed of the machine", shown(file))
        return {}


def _of(decisions: Mapping[int, Decision], seconds: float | None) -> dict[int, Decision]:
    """Those for a budget of `seconds`."""
    return {step: decision for step, decision in decisions.items() if decision.seconds == seconds}


def repeat(run: Path, folder: Path, chosen: Mapping[str, Any], seconds: float, first: int, last: int) -> bool:
    """Let a run in `folder` decide from step `first` to `last` as the one in `run` did, and nothing by its own clock.

    Args:
        chosen: the entry of the manifest at `first`.
        seconds: the budget.

    Returns False if it is not known how that one decided.
    """
    kept = _read(run / FILE)
    known = _of(kept, seconds)
    carried = (chosen.get("budget") or {}).get("seconds") == seconds
    if not known or not (carried or first in known or not chosen.get("budget")):
        return False
    folder.mkdir(exist_ok=True)
    _write(folder / FILE, known | {last + 1: known[max(known)]})  # a decision that is known to come rules out others
    return True
