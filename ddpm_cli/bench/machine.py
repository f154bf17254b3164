"""What measurements depend on besides the config: processor, versions, load; and how much memory was needed."""

import os
import platform
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from ..hardware.runtime import Runtime

PACKAGES = ("ddpm-cli", "torch", "torchvision", "numpy", "hydra-core")


def machine() -> dict[str, Any]:
    """Processor, cores, load and versions; torch is not needed for them."""
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": processor(),
        "cores": os.cpu_count(),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,  # others at work: noisy figures
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
    }


def processor() -> str:
    """Its name as the system gives it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def peak_resident() -> int | None:
    """The most bytes this process has had in memory so far; None where the system does not tell."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource  # there is none on Windows
    except ImportError:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


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
