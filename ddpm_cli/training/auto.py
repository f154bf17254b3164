"""What `auto` comes to for a run."""

import logging
from collections.abc import Callable
from copy import deepcopy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..data.images import Batch, Images
from ..hardware.compiling import break_even_seconds, estimated_seconds
from ..hardware.memory import fits_by_estimate, halved, host_memory
from ..objectives.base import Objective
from .plan import Plan
from .randomness import StepRandom
from .state import TrainState

if TYPE_CHECKING:
    from ..hardware.cost import Cost

log = logging.getLogger(__name__)


class Auto:
    """A function of the run's config, its network and the kind of machine, so that two runs of one command agree.

    Args:
        model: what the objective calls, around the network of `state`.
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
        """Whether the run is long enough, see `enough`."""
        tensors, steps = len(self.state.parameters), self.plan.length(len(self.data))
        images, wanted = steps * self.plan.batch_size, break_even_seconds(tensors, self.device, training=True)
        if self.plan.max_seconds is not None and self.plan.max_seconds < wanted:
            return False
        _, height, width = self.data.shape
        most = 6 * height * width * sum(p.numel() for p in self.state.parameters)  # each weight once for each pixel
        if estimated_seconds(images * most, steps, tensors, self.device) < wanted:
            return False
        cost = self.cost()
        return cost is not None and estimated_seconds(images * cost.flops, steps, tensors, self.device) >= wanted

    def micro_batch(self) -> int:
        """The largest part of a batch that fits: by trying on CUDA, by estimate on the host."""
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
            log.info("trainer.micro_batch_size: batches of %d do not fit into memory, taking %d at a time", size, part)
        return part

    def cost(self) -> "Cost | None":
        """Of a training step, for each image; None where it cannot be counted."""
        from ..hardware.cost import count  # slow to import, and seldom needed

        def step(model: nn.Module, images: int) -> Tensor:
            model.train()
            x, y = torch.zeros(images, *self.data.shape), torch.zeros(images, dtype=torch.int64)
            batch = Batch(x.to(self.device), y.to(self.device))
            return deepcopy(self.objective)(model, batch, StepRandom(0, 0, self.device, images)).value

        return count(self.model, step)


def fits_by_trying(
    objective: Objective, model: nn.Module, state: TrainState, size: int, shape: tuple[int, ...]
) -> Callable[[int], bool]:
    """Whether a step over parts of a batch of `size` images of `shape` runs on the device; made before the first step.

    Weights, statistics and what the objective remembers stay as they are.
    """

    def fits(part: int) -> bool:
        device = state.parameters[0].device
        if state.times is not None:
            state.times.to(device)
        kept = [(b, b.clone()) for m in (model, state.times) if m is not None for b in m.buffers()]
        call, state.module._compiled_call_impl = state.module._compiled_call_impl, None
        memory: list[Tensor] = []
        try:
            if not state.optimizer.state:  # which its first step will ask for
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
            with torch.no_grad():
                for buffer, before in kept:
                    buffer.copy_(before)
            state.module._compiled_call_impl = call
            if device.type == "cuda":
                torch.cuda.empty_cache()

    return fits
