"""The parts in which a batch is computed: `trainer.micro_batch_size=auto` finds the largest ones that fit into memory.

Before the first step the size is chosen by an estimate, see `Auto`. If memory is not enough for it after all, the first
step of a session halves the parts and computes the same step again. The size that was found is saved in checkpoints.
"""

import itertools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..errors import OutOfMemoryError, out_of_memory, shortage
from ..hardware.compiling import Compiled
from .plan import Plan
from .state import TrainState

TRIED = 2
"""Steps of a session in which the parts may be halved: the optimizer's moments need memory from the second one on."""
log = logging.getLogger(__name__)


def equal_parts(size: int, part: int) -> list[slice]:
    """The rows of a batch of `size` in the fewest parts of at most `part` rows, which differ by one row at most."""
    n = -(-size // part)
    ends = [i * size // n for i in range(n + 1)]
    return [slice(a, b) for a, b in itertools.pairwise(ends)]


def fitted(
    compute: Callable[[], dict[str, Tensor]], model: nn.Module, state: TrainState, plan: Plan, size: int
) -> dict[str, Tensor]:
    """`compute()`, which adds up gradients; in the first steps of a session, with parts that are halved until they fit.

    Every try starts from the same statistics and random numbers, so the step is that of the undivided batch.

    Args:
        size: the number of images in the batch.

    Raises:
        RuntimeError: memory is not enough for a single image, or in a later step.
    """
    if plan.micro_batch_size != "auto" or state.fitted_steps >= TRIED:
        return compute()
    before = state.micro_batch("auto", size)
    statistics = Statistics(model, state)
    while (logs := _tried(compute, state, size)) is None:
        state.optimizer.zero_grad()
        statistics.restore()
        if state.parameters[0].device.type == "cuda":
            torch.cuda.empty_cache()
        if isinstance(state.module._compiled_call_impl, Compiled):
            state.module._compiled_call_impl.forget()  # a resumed run compiles for these parts, too
        state.chosen["micro_batch_size"] = (state.micro_batch("auto", size) + 1) // 2
    part = state.micro_batch("auto", size)
    state.fitted_steps += 1
    if part < before:
        log.info("trainer.micro_batch_size: parts of %d do not fit into memory; using parts of %d", before, part)
        warn_of_batch_norm(state.module, part, size)
    return logs


def _tried(compute: Callable[[], dict[str, Tensor]], state: TrainState, size: int) -> dict[str, Tensor] | None:
    """None if memory is not enough. With the error, which then is gone, the tensors of the failed try are freed."""
    try:
        return compute()
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error) or state.micro_batch("auto", size) == 1:
            raise
    return None


class Statistics:
    """The buffers that a step changes besides the weights, as they are now: of batch norm, and of adaptive times."""

    def __init__(self, model: nn.Module, state: TrainState):
        self._kept = [(b, b.clone()) for m in (model, state.times) if m is not None for b in m.buffers()]

    @torch.no_grad()
    def restore(self) -> None:
        """Undo what happened since."""
        for buffer, before in self._kept:
            buffer.copy_(before)


def warn_of_batch_norm(module: nn.Module, part: int, size: int) -> None:
    """Log a warning if parts of a batch give another result than the batch."""
    if part < size and any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in module.modules()):
        most = max(rows.stop - rows.start for rows in equal_parts(size, part))
        log.warning(
            "trainer.micro_batch_size: batch norm takes its statistics from %d images at a time instead of %d, so the "
            "result differs from that of whole batches", most, size,
        )  # fmt: skip


@contextmanager
def advised(state: TrainState, plan: Plan) -> Iterator[None]:
    """Where memory runs out while a model trains, the error says which numbers to lower.

    Raises:
        OutOfMemoryError: in place of the one that torch or the system raises.
    """
    try:
        yield
    except (RuntimeError, MemoryError, OSError) as error:
        if not out_of_memory(error):
            raise
        part = state.micro_batch(plan.micro_batch_size, plan.batch_size)
        advice = [f"trainer.micro_batch_size={(part + 1) // 2} (now {part})"] if part > 1 else []
        advice += [] if plan.gradient_checkpointing else ["trainer.gradient_checkpointing=true"]
        advice += ["a smaller trainer.samples", "a smaller model"]
        raise OutOfMemoryError(
            f"memory: not enough at step {state.step} ({shortage(error)}); run the same command again with "
            f"{', '.join(advice[:-1])} or {advice[-1]}"
        ) from error
