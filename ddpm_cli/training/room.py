"""Whether the disk has room for the checkpoints of a run, before it starts."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from torch import Tensor
from torch.optim import Optimizer

from ..errors import StorageError
from ..files import shown
from ..progress import plural
from ..runs.checkpoint import steps_in
from .plan import UNKNOWN, Plan

SPARE = 2**20
"""Bytes for numbers, logs and pictures."""
KEPT = {"betas": 2, "momentum": 1}
"""Values that an optimizer keeps for each weight, by the option that asks for them."""


class Saved(Protocol):
    """What a run saves. An optimizer that has not made a step yet has nothing to save."""

    step: int

    def tensors(self) -> Mapping[str, Tensor]: ...


def check_room(folder: Path, state: Saved, plan: Plan, images: int) -> None:
    """A run that the disk plainly has no room for does not start. Quotas cannot be seen.

    Args:
        images: the number of training images.

    Raises:
        StorageError: there is less room than for the checkpoints that lie there while one more is saved.
    """
    most = plan.keep_last + bool(plan.best_by) + 1  # with the one that is being saved
    n = max(1, min(most - len(steps_in(folder / "checkpoints")), _saves(state.step, plan, images)))
    needed, usage = n * _size(state) + SPARE, shutil.disk_usage(folder)
    if usage.total and usage.free < needed:  # some file systems do not tell
        sizes = f"{plural(n, 'checkpoint')} need about {needed / 2**20:,.1f} MiB, but the disk has"
        free = f"{usage.free / 2**20:,.1f} MiB free"
        fewer = ", lower trainer.keep_last" if n > 1 and plan.keep_last > 2 else ""
        raise StorageError(f"{shown(folder)}: {sizes} {free}; free some space{fewer}, or set another run_dir")


def _saves(step: int, plan: Plan, images: int) -> int:
    """The checkpoints to come, as far as they are known: that at the end, and those before it."""
    left = plan.length(images) - step
    if plan.length(images) == UNKNOWN or not plan.save_every:
        return 1
    every = -(-images // plan.batch_size) if plan.save_every == "epoch" else plan.save_every
    return max(1, left // every)


def _size(state: Saved) -> int:
    """About the bytes of a checkpoint."""
    size = sum(tensor.nbytes for tensor in state.tensors().values())
    optimizer = getattr(state, "optimizer", None)
    if isinstance(optimizer, Optimizer) and not optimizer.state:
        each = sum(number for option, number in KEPT.items() if optimizer.defaults.get(option))
        size += each * sum(p.nbytes for group in optimizer.param_groups for p in group["params"])
    return size
