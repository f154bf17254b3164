"""Counts the operations and the activation memory of a network per image, on tensors without data."""

import logging
from collections.abc import Callable
from copy import deepcopy
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

log = logging.getLogger(__name__)
BATCH = 2
"""Number of images to count with; 1 would be enough but for batch normalisation."""


class Cost(NamedTuple):
    """Per image: floating-point operations, and bytes saved for the backward pass."""

    flops: float
    bytes: float


def count(model: nn.Module, call: Callable[[nn.Module, int], Tensor | None]) -> Cost | None:
    """The cost of `call(copy of model, number of images)`, which returns the tensor to differentiate, or None.

    Changes neither the model nor its buffers, and allocates no memory. Returns None if the cost cannot be counted, for
    example because an operation depends on values, which these tensors do not have.
    """
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    memo: dict[int, Any] = {id(p): fake.from_tensor(p) for p in model.parameters()}
    saved: dict[int, int] = {}

    def save(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage._cdata] = storage.nbytes()
        return tensor

    try:
        copy = deepcopy(model, memo)
        with fake, FlopCounterMode(display=False) as counter:
            with saved_tensors_hooks(save, lambda tensor: tensor):
                value = call(copy, BATCH)
            if value is not None:
                value.backward()
    except Exception as error:  # a user's network may do anything, and nothing depends on the count
        log.debug("cannot count the operations: %s", error)
        return None
    weights = {p.untyped_storage()._cdata for p in copy.parameters()}
    total = sum(size for storage, size in saved.items() if storage not in weights)
    return Cost(counter.get_total_flops() / BATCH, total / BATCH)
