"""How many images at a time, and whether the network is compiled for them.

Neither changes more than the last digits.
"""

from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..diffusion.denoiser import Denoiser
from ..hardware.compiling import compile_call, enough, mode_of, seconds_of
from ..hardware.memory import SHARE, halved, host_memory
from ..hardware.options import CompileMode, CompileSetting
from ..runs.load import Loaded
from .generator import Direct

AT_A_TIME = {"cuda": 256}
HOST = 64
"""Images at a time that keep the cores busy; more are no faster there."""
PLENTY = 200_000
"""Bytes for each pixel that no network in sight needs."""
Size = int | Literal["auto"]


class Speed:
    """Of drawing `n` images with so many network calls for each batch.

    Args:
        asked: batch_size, `auto` = what suits the device and its memory.
    """

    def __init__(self, loaded: Loaded | Direct, n: int, calls: int, asked: Size):
        self.loaded, self.n, self.calls, self.asked = loaded, n, calls, asked
        self.device = loaded.runtime.device

    @cached_property
    def batch_size(self) -> int:
        if self.asked != "auto":
            return self.asked
        size = min(AT_A_TIME.get(self.device.type, HOST), self.n)
        total = host_memory() if self.device.type == "cpu" else None
        if total is None:  # elsewhere a batch that does not fit is halved once that is known
            return size
        _, height, width = self.loaded.shape
        return halved(size, lambda part: part * height * width * PLENTY <= SHARE * total or self._fits(part, total))

    def compile(self, setting: CompileSetting) -> CompileMode:
        """Compile the network where `setting` says so, and tell what was done. On CUDA `auto` also captures graphs."""
        if not isinstance(self.loaded.model, Denoiser):
            return "eager"  # an autoencoder draws in one call
        mode = mode_of(setting, self.device, self._worth, "compile")
        if mode == "compiled" and setting == "auto" and self.device.type == "cuda":
            mode = "graphs"
        size = self.batch_size
        compile_call(self.loaded.module, mode, False, sizes=(size, 2 * size), key="compile")  # guidance draws two
        return mode

    def _worth(self) -> bool:
        tensors, wanted = len(self._weights), enough(len(self._weights), self.device, training=False)
        _, height, width = self.loaded.shape
        most = 2 * height * width * sum(p.numel() for p in self._weights)  # each weight once for each pixel
        batches = -(-self.n // self.batch_size)

        def seconds(flops: float) -> float:
            return seconds_of(flops * self.n * self.calls, batches * self.calls, tensors, self.device)

        return seconds(most) >= wanted and self._work is not None and seconds(self._work.flops) >= wanted

    def _fits(self, part: int, total: int) -> bool:
        return self._work is None or part * self._work.bytes + sum(p.nbytes for p in self._weights) <= SHARE * total

    @property
    def _weights(self) -> list[nn.Parameter]:
        return list(self.loaded.module.parameters())

    @cached_property
    def _work(self) -> Any:
        from ..hardware.cost import count  # slow to import, and seldom needed

        if not isinstance(self.loaded.model, Denoiser):
            return None

        def call(model: nn.Module, images: int) -> Tensor | None:
            x = torch.zeros(images, *self.loaded.shape, device=self.device, requires_grad=True)
            model(x, torch.full((images,), 0.5, device=self.device))
            return None

        return count(self.loaded.model, call)
