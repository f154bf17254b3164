"""The number formats in which a device computes natively. Everything that picks a format asks here.

A product in a format that the hardware lacks is emulated, which is many times slower than float32: tens of times on a
CPU that has AVX2 and nothing newer.
"""

import os
import time
from collections.abc import Callable
from functools import cache

import torch

SIDE = 256
"""Rows and columns of the matrices that `bf16_slowdown` multiplies: a few milliseconds even where it is emulated."""
CPU_FEATURES = ("avx2", "avx512_f", "avx512_bf16", "amx_bf16", "neon", "bf16", "sve")
"""The instruction sets, by torch's names, that decide how fast a network is on a CPU."""


def native_bf16(device: torch.device) -> bool:
    """Whether the device multiplies matrices of bfloat16 in hardware. False where that is not known."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return _cpu_has_bf16() and not held_back()
    return False


def product_format(device: torch.device) -> torch.dtype:
    """The fastest format for matrix products of which rounding errors are corrected later: bfloat16 where native."""
    return torch.bfloat16 if native_bf16(device) else torch.float32


def native_formats(device: torch.device) -> list[str]:
    """The formats that a run can use on the device without emulation, by the names of `precision`."""
    tf32 = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    return ["fp32", *(["tf32"] if tf32 else []), *(["bf16"] if native_bf16(device) else [])]


def cpu_features() -> list[str]:
    """The instruction sets among `CPU_FEATURES` that this CPU has, whether or not libraries are held back."""
    if not hasattr(torch.cpu, "get_capabilities"):
        return [torch.backends.cpu.get_cpu_capability().lower()]
    capabilities = torch.cpu.get_capabilities()
    return [name for name in CPU_FEATURES if capabilities.get(name)]


def described(device: torch.device) -> str:
    """One phrase on what the device computes natively, such as "native: fp32, bf16 (avx2, avx512_bf16)"."""
    features = f" ({', '.join(cpu_features())}{'; held back' if held_back() else ''})" if device.type == "cpu" else ""
    return f"native: {', '.join(native_formats(device))}{features}"


def held_back() -> bool:
    """Whether oneDNN, which computes products of bfloat16, is held to instructions that lack them.

    ONEDNN_MAX_CPU_ISA is oneDNN's own variable (and DNNL_MAX_CPU_ISA the older name).
    """
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", os.environ.get("DNNL_MAX_CPU_ISA", "ALL")).upper()
    return not any(part in limit for part in ("ALL", "DEFAULT", "BF16", "FP16", "AMX", "AVX10"))


@cache
def bf16_slowdown(device: torch.device) -> float:
    """The time of a product in bfloat16 over its time in float32, measured: below 1 where it is worth using."""
    if device.type != "cpu":
        wait: Callable[[], None] = torch.cuda.synchronize if device.type == "cuda" else torch.mps.synchronize
    else:
        wait = lambda: None  # noqa: E731
    return _product_seconds(torch.bfloat16, device, wait) / _product_seconds(torch.float32, device, wait)


def _product_seconds(dtype: torch.dtype, device: torch.device, wait: Callable[[], None]) -> float:
    """The shortest of several times, so that other processes do not count."""
    matrix = torch.ones(SIDE, SIDE, dtype=dtype, device=device)
    times = []
    for _ in range(5):
        wait()
        began = time.perf_counter()
        matrix @ matrix
        wait()
        times.append(time.perf_counter() - began)
    return min(times)


def _cpu_has_bf16() -> bool:
    if not hasattr(torch.cpu, "get_capabilities"):  # torch 2.11 and older only have the private function
        return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "avx10_1", "avx10_2"))
