"""How much a network computes and remembers for each image, counted on tensors without data."""

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
"""Images that are counted with; one alone would do, but for batch normalisation."""


class Cost(NamedTuple):
    """Of one image: floating point operations, and bytes that the backward pass finds remembered."""

    flops: float
    bytes: float


def count(model: nn.Module, call: Callable[[nn.Module, int], Tensor | None]) -> Cost | None:
    """Of `call(copy of model, images)`, which returns what is differentiated, or None.

    Neither the model and its buffers nor memory are touched. None where it cannot be counted, as with operations that
    depend on values, which are not there.
    """
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    held: dict[int, Any] = {id(p): fake.from_tensor(p) for p in model.parameters()}
    remembered: dict[int, int] = {}

    def remember(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        remembered[storage._cdata] = storage.nbytes()
        return tensor

    try:
        copy = deepcopy(model, held)
        with fake, FlopCounterMode(display=False) as counter:
            with saved_tensors_hooks(remember, lambda tensor: tensor):
                value = call(copy, BATCH)
            if value is not None:
                value.backward()
    except Exception as error:  # a network of someone else's may do anything; nothing depends on the count
        log.debug("cannot be counted: %s", error)
        return None
    weights = {p.untyped_storage()._cdata for p in copy.parameters()}
    total = sum(size for storage, size in remembered.items() if storage not in weights)
    return Cost(counter.get_total_flops() / BATCH, total / BATCH)
