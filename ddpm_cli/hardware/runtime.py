"""The device, the precision and the memory layout that a network runs with."""

import logging
from dataclasses import dataclass
from functools import cache

import torch
from torch import nn

from ..errors import ConfigError
from .allocator import keep_freed_memory
from .formats import bf16_slowdown, native_bf16
from .options import Precision
from .threads import LoadFollower

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Runtime:
    """The device and the precision of a network. `autocast` is None in full precision."""

    device: torch.device
    autocast: torch.dtype | None
    tf32: bool = False

    @property
    def precision(self) -> str:
        return "bf16" if self.autocast else "tf32" if self.tf32 else "fp32"

    def __str__(self) -> str:
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type
        return f"{name}, {self.precision}"

    def prepare(self, module: nn.Module) -> nn.Module:
        """Move `module` to the device in channels_last, the fastest layout for convolutions on every backend.

        A network in float64 stays on the host unchanged, because not every device supports that format.
        """
        if any(t.dtype == torch.float64 for t in (*module.parameters(), *module.buffers())):
            return module
        if self.device.type == "cuda":
            torch.set_float32_matmul_precision("high" if self.tf32 or self.autocast else "highest")
            torch.backends.cudnn.allow_tf32 = self.tf32 or self.autocast is not None
        elif self.device.type == "cpu":
            keep_freed_memory()
        return module.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def freeze(self, module: nn.Module) -> nn.Module:
        """Make a prepared module ready for inference: weights that autocast would cast in every call are cast once.

        The results are the same. It only applies if the module is called under autocast, and only to the networks of
        this package, because others may use their weights in other ways.
        """
        module.eval().requires_grad_(False)
        if self.autocast and type(module).__module__.partition(".")[0] == __name__.partition(".")[0]:
            for layer in module.modules():
                if type(layer) in (nn.Conv2d, nn.ConvTranspose2d, nn.Linear):
                    layer.to(self.autocast)
        return module

    def synchronize(self) -> None:
        """Wait for the device. Call it only before reading a clock."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()


def choose_runtime(
    device: str, precision: Precision, device_key: str = "device", precision_key: str = "precision"
) -> Runtime:
    """The runtime for these settings. `auto` picks CUDA, else MPS, else the CPU, and bf16 if the hardware has it.

    Raises:
        ConfigError: the device is not available or does not support the precision.
    """
    chosen = _device(device, device_key)
    native = native_bf16(chosen)
    if precision == "tf32" and chosen.type != "cuda":
        raise ConfigError(f"{precision_key}: tf32 needs an NVIDIA GPU, the device is {chosen.type}; use auto or fp32")
    if precision == "bf16" and chosen.type == "mps":
        raise ConfigError(f"{precision_key}: bf16 is not supported on mps; use auto or fp32")
    bf16 = precision == "bf16" or (precision == "auto" and native)
    if bf16 and not native and (factor := bf16_slowdown(chosen)) > 1:
        told = "%s: this device only emulates bf16: a product takes %.2g times as long as in fp32; use auto or fp32"
        log.warning(told, precision_key, factor)
    return Runtime(chosen, torch.bfloat16 if bf16 else None, precision == "tf32")


def follow_load() -> None:
    """Use fewer threads while other programs use the cores, see `LoadFollower`; to be called now and then."""
    if text := _follower().follow():
        log.info("%s", text)


@cache
def _follower() -> LoadFollower:
    return LoadFollower(torch.set_num_threads, torch.get_num_threads())


def autotune(on: bool) -> None:
    """Set whether cuDNN measures its convolution algorithms and uses the fastest.

    Another process may choose another algorithm, which rounds differently. So a run that must resume bit for bit leaves
    this off and uses deterministic algorithms.
    """
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = on, not on


def _device(name: str, key: str) -> torch.device:
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"{key}: there is no device {name!r}; use auto, cpu, cuda, cuda:0 or mps") from error
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(device.type, False) or (
        device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()
    ):
        choices = " or ".join(["auto", *(kind for kind in available if available[kind])])
        raise ConfigError(f"{key}: {name} is not available; use {choices}")
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device
