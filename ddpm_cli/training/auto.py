"""Resolves the settings of a run that are `auto`: whether to compile, and the micro-batch size."""

import logging
import math
from collections.abc import Callable
from copy import deepcopy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..data.images import Batch, Images
from ..hardware.compiling import break_even_seconds, estimated_seconds
from ..hardware.memory import fits_by_estimate, halved, host_memory
from ..objectives.base import Objective
from .fitting import Statistics
from .plan import UNKNOWN, Plan
from .randomness import StepRandom
from .state import TrainState

if TYPE_CHECKING:
    from ..hardware.cost import Cost

log = logging.getLogger(__name__)


class Auto:
    """Depends only on the run's config, its network and the kind of machine, so two runs of one command agree.

    Args:
        model: the module that the objective calls; it wraps the network of `state`.
    """

    def __init__(
        self,
        objective: Objective,
        model: nn.Module,
        state: TrainState,
        plan: Plan,
        device: torch.device,
        data: Images,
    ):
        self.objective, self.model, self.state = objective, model, state
        self.plan, self.device, self.data = plan, device, data

    def worth_compiling(self) -> bool:
        """Whether the run is long enough for compiling to save time, see `break_even_seconds`."""
        tensors, limited = len(self.state.parameters), self.plan.budget_seconds is not None
        steps = UNKNOWN if limited else self.plan.length(len(self.data))
        images, break_even = steps * self.plan.batch_size, break_even_seconds(tensors, self.device, training=True)
        if min(self.plan.max_seconds or math.inf, self.plan.budget_seconds or math.inf) < break_even:
            return False
        _, height, width = self.data.shape
        most = 6 * height * width * sum(p.numel() for p in self.state.parameters)  # every weight used at every pixel
        if estimated_seconds(images * most, steps, tensors, self.device) < break_even:
            return False
        cost = self.cost()
        return cost is not None and estimated_seconds(images * cost.flops, steps, tensors, self.device) >= break_even

    def micro_batch(self) -> int:
        """The largest micro-batch that fits into memory: found by trying on CUDA, by an estimate on the host."""
        size, weights = self.plan.batch_size, sum(p.nbytes for p in self.state.parameters)
        if self.device.type == "cuda":
            fits = fits_by_trying(self.objective, self.model, self.state, size, self.data.shape)
        else:
            cost, total = self.cost(), host_memory()
            if cost is None or total is None:
                return size
            fits = fits_by_estimate(cost.bytes, weights, total)
        part = halved(size, fits)
        if part < size:
            log.info("trainer.micro_batch_size: a batch of %d does not fit into memory; using parts of %d", size, part)
        return part

    def cost(self) -> "Cost | None":
        """The cost of a training step per image; None if it cannot be counted."""
        from ..hardware.cost import count  # slow to import and rarely needed

        def step(model: nn.Module, images: int) -> Tensor:
            model.train()
            x, y = torch.zeros(images, *self.data.shape), torch.zeros(images, dtype=torch.int64)
            batch = Batch(x.to(self.device), y.to(self.device))
            return deepcopy(self.objective)(model, batch, StepRandom(0, 0, self.device, images)).value

        return count(self.model, step)


def fits_by_trying(
    objective: Objective, model: nn.Module, state: TrainState, size: int, shape: tuple[int, ...]
) -> Callable[[int], bool]:
    """A function that tries a training step on part of a batch and returns whether it fits into the device's memory.

    The batch has `size` images of `shape`. Meant for use before the first step. Weights, batch statistics and the
    state of the objective are left unchanged.
    """

    def fits(part: int) -> bool:
        device = state.parameters[0].device
        if state.times is not None:
            state.times.to(device)
        statistics = Statistics(model, state)
        call, state.module._compiled_call_impl = state.module._compiled_call_impl, None
        memory: list[Tensor] = []
        try:
            if not state.optimizer.state:  # it is allocated in the first step
                memory = [torch.empty_like(p) for p in state.parameters for _ in range(2)]
            batch = Batch(torch.zeros(part, *shape, device=device), torch.zeros(part, dtype=torch.int64, device=device))
            rng = StepRandom(0, 0, device, size, slice(0, part))
            model.train()
            objective(model, batch, rng).value.backward()
            return True
        except torch.OutOfMemoryError:
            return False
        finally:
            memory.clear()
            state.optimizer.zero_grad()
            statistics.restore()
            state.module._compiled_call_impl = call
            if device.type == "cuda":
                torch.cuda.empty_cache()

    return fits
