"""The machine that measurements were made on: processor, versions, load; and the peak memory."""

import os
import platform
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from ..hardware.formats import cpu_features, held_back, native_formats
from ..hardware.runtime import Runtime

PACKAGES = ("ddpm-cli", "torch", "torchvision", "numpy", "hydra-core")


def machine() -> dict[str, Any]:
    """Processor, cores, load and versions. Does not need torch."""
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": processor(),
        "cores": os.cpu_count(),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,  # high = noisy values
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
    }


def processor() -> str:
    """The name of the processor as reported by the system."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def peak_resident() -> int | None:
    """The peak resident memory of this process so far, in bytes; None if the system does not report it."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource  # not available on Windows
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def begin_memory(runtime: Runtime) -> None:
    """Restart the peak of a CUDA device. The host's peak is always that of the whole process."""
    if runtime.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(runtime.device)


def peak_memory(runtime: Runtime) -> int | None:
    """Peak memory in bytes: of tensors on a CUDA device, otherwise of the whole process on the host."""
    if runtime.device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(runtime.device))
    return peak_resident()


def surroundings(runtime: Runtime, compiled: bool) -> dict[str, Any]:
    """The entries of bench.json on machine and precision."""
    name = torch.cuda.get_device_name(runtime.device) if runtime.device.type == "cuda" else runtime.device.type
    return machine() | {
        "device": name,
        "cuda": torch.version.cuda if runtime.device.type == "cuda" else None,
        "threads": torch.get_num_threads(),
        "precision": runtime.precision,
        "native_formats": native_formats(runtime.device),
        "cpu_features": cpu_features(),
        "held_back": held_back(),
        "compile": compiled,
    }
