"""The batch size of sampling, and whether the network is compiled.

Both change at most the last digits of the samples.
"""

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from torch import nn

from ..build import check_positive
from ..hardware.compiling import break_even_seconds, compile_call, estimated_seconds, resolve_mode
from ..hardware.memory import FRACTION, halved, host_memory
from ..hardware.options import CompileMode, CompileSetting
from ..runs.load import RunModel

if TYPE_CHECKING:
    from ..hardware.cost import Cost

AT_A_TIME = {"cuda": 256}
HOST = 64
"""Batch size that keeps all cores of a CPU busy; larger ones are not faster."""
PLENTY = 200_000
"""Bytes per pixel of an image, more than any of our networks needs."""
Size = int | Literal["auto"]
NetworkCall = Callable[[nn.Module, int], None]
"""Calls a model once, with a number of blank images."""


class Batching:
    """The batch size for drawing `n` images with `calls` network calls per batch.

    Args:
        call: calls the network of a model that is sampled step by step; None for other models.
        requested: batch_size; `auto` = chosen for the device and its memory.
    """

    def __init__(self, run: RunModel, call: NetworkCall | None, n: int, calls: int, requested: Size):
        check_positive(batch_size=1 if requested == "auto" else requested)
        self.run, self.call, self.n, self.calls, self.requested = run, call, n, calls, requested
        self.device = run.runtime.device

    @cached_property
    def batch_size(self) -> int:
        if self.requested != "auto":
            return self.requested
        size = min(AT_A_TIME.get(self.device.type, HOST), self.n)
        total = host_memory() if self.device.type == "cpu" else None
        if total is None:  # on other devices, a batch that turns out not to fit is halved
            return size
        _, height, width = self.run.shape
        available = FRACTION * total
        return halved(size, lambda part: part * height * width * PLENTY <= available or self._fits(part, total))

    def compile(self, setting: CompileSetting) -> CompileMode:
        """Compile the network if `setting` asks for it. Returns the mode. On CUDA, `auto` also captures graphs."""
        if self.call is None:
            return "eager"  # not worth it for a single call
        mode = resolve_mode(setting, self.device, self._pays_off, "compile")
        if mode == "compiled" and setting == "auto" and self.device.type == "cuda":
            mode = "graphs"
        size = self.batch_size
        compile_call(self.run.module, mode, False, sizes=(size, 2 * size), key="compile")  # guidance doubles it
        return mode

    def _pays_off(self) -> bool:
        tensors, break_even = len(self._weights), break_even_seconds(len(self._weights), self.device, training=False)
        _, height, width = self.run.shape
        most = 2 * height * width * sum(p.numel() for p in self._weights)  # every weight used at every pixel
        batches = -(-self.n // self.batch_size)

        def seconds(flops: float) -> float:
            return estimated_seconds(flops * self.n * self.calls, batches * self.calls, tensors, self.device)

        return seconds(most) >= break_even and self._cost is not None and seconds(self._cost.flops) >= break_even

    def _fits(self, part: int, total: int) -> bool:
        if self._cost is None:
            return True
        return part * self._cost.bytes + sum(p.nbytes for p in self._weights) <= FRACTION * total

    @property
    def _weights(self) -> list[nn.Parameter]:
        return list(self.run.module.parameters())

    @cached_property
    def _cost(self) -> "Cost | None":
        from ..hardware.cost import count  # slow to import and rarely needed

        return None if self.call is None else count(self.run.model, self.call)
