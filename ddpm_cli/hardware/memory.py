"""How many images at a time fit into memory."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from ..data.images import Batch
from ..objectives.base import Objective
from ..training.randomness import StepRandom
from ..training.state import TrainState

SHARE = 0.8
"""Of the host's memory that a step may fill by estimate."""
LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Of a container; no number where there is none."""


def halved(size: int, fits: Callable[[int], bool]) -> int:
    """`size`, halved until it `fits`; 1 is not asked about."""
    while size > 1 and not fits(size):
        size = (size + 1) // 2
    return size


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


def fits_by_estimate(per_image: float, weights: int, total: int) -> Callable[[int], bool]:
    """Whether a step over so many images stays below `SHARE` of `total` bytes.

    Args:
        per_image: bytes that the backward pass finds remembered.
        weights: bytes of all of them; gradients, moments and average are four times as many.
    """
    return lambda part: per_image * part + 5 * weights <= SHARE * total


def host_memory() -> int | None:
    """Bytes of the machine, or of the container where that is less; None = not known. Not what is free at the moment:
    the same command must choose the same.
    """
    found = []
    for file in LIMITS:
        try:
            found.append(int(Path(file).read_text()))
        except (OSError, ValueError):
            continue
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemTotal:")]
    except (OSError, ValueError):
        pass
    return min(found, default=None)
