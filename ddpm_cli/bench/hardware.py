"""The device: its memory, and how fast it multiplies matrices."""

from typing import Any

import torch

from ..hardware.runtime import Runtime
from .machine import machine, peak_resident
from .windows import Done

SIDES = {"cuda": 8192, "cpu": 2048}
"""Of the square matrices: large enough that nothing but arithmetic counts, small enough for many products a second."""


class Product:
    """A matrix product in the run's precision again and again; the best window is the peak that shares are of."""

    def __init__(self, runtime: Runtime):
        side = SIDES.get(runtime.device.type, 4096)
        kind = runtime.autocast or torch.float32
        g = torch.Generator().manual_seed(0)
        a, b = (torch.randn(side, side, generator=g).to(runtime.device, kind) for _ in range(2))
        self.a, self.b, self.out = a, b, torch.empty_like(a)

    def __call__(self) -> Done:
        torch.mm(self.a, self.b, out=self.out)
        return Done(2.0 * len(self.a) ** 3)


def begin_memory(runtime: Runtime) -> None:
    """From here on the device's most is counted; the host's is that of the whole process."""
    if runtime.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(runtime.device)


def peak_memory(runtime: Runtime) -> int | None:
    """Bytes: what tensors took on a CUDA device, else what the process took of the host's memory."""
    if runtime.device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(runtime.device))
    return peak_resident()


def surroundings(runtime: Runtime, compiled: bool) -> dict[str, Any]:
    """What bench.json says of machine and precision."""
    name = torch.cuda.get_device_name(runtime.device) if runtime.device.type == "cuda" else runtime.device.type
    return machine() | {
        "device": name,
        "cuda": torch.version.cuda if runtime.device.type == "cuda" else None,
        "threads": torch.get_num_threads(),
        "precision": runtime.precision,
        "compile": compiled,
    }
