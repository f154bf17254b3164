"""The learning rates of an optimizer, and what happens to them when a run is resumed with another plan."""

import logging
from collections.abc import Sequence

from ..build import build
from ..errors import ConfigError
from ..runs.checkpoint import Checkpoint
from .plan import Plan
from .state import TrainState

log = logging.getLogger(__name__)
NOTICED = 1.01
"""A rise of the learning rate by this factor is a jump."""


def set_rates(state: TrainState, rates: Sequence[float], factor: float) -> None:
    """rates: the initial learning rates of the optimizer's groups."""
    for group, rate in zip(state.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate * factor


def warn_of_jump(start: Checkpoint, plan: Plan, step: int, images: int) -> None:
    """Log a warning if the learning rate rises at `step` because the number of steps or of images has changed.

    Runs with a budget say so themselves, see `budget.opened`.
    """
    node, before = start.manifest["config"].get("trainer"), start.manifest.get("about", {}).get("images")
    if plan.budget_seconds is not None or start.manifest.get("chosen", {}).get("budget") or not isinstance(before, int):
        return
    try:
        old = build(node, "trainer", trust=())
    except ConfigError:  # of another version
        return
    if not isinstance(old, Plan) or before < 1 or images < 1:
        return
    last = max(step - 1, 0)
    was = old.learning_rate(last, old.length(before), before)
    now = plan.learning_rate(step, plan.length(images), images)
    if now > was * NOTICED and step > max(plan.warmup_steps, old.warmup_steps):
        log.warning(
            "the learning rate rises from %.2g to %.2g of its peak, because the run now has %d steps instead of %d",
            was, now, plan.length(images), old.length(before),
        )  # fmt: skip
