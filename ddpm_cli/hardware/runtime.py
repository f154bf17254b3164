"""Which device, which precision, which memory layout. The only place that knows hardware."""

from dataclasses import dataclass

import torch
from torch import nn

from ..errors import ConfigError
from .allocator import keep_freed_memory
from .options import Precision


@dataclass(frozen=True)
class Runtime:
    """Where and how precisely a network runs. `autocast` is None in full precision."""

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
        """On the device, channels_last: the layout in which convolutions of every backend are fastest.

        A network in float64 stays on the host, as it is: not every device has that format.
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
        """One that is prepared, to be called and not trained: what autocast would cast in every call is cast once, to
        the same numbers.

        Only for one that is called under autocast, and only in this package's networks: another may use its weights in
        ways of its own.
        """
        module.eval().requires_grad_(False)
        if self.autocast and type(module).__module__.partition(".")[0] == __name__.partition(".")[0]:
            for part in module.modules():
                if type(part) in (nn.Conv2d, nn.ConvTranspose2d, nn.Linear):
                    part.to(self.autocast)
        return module

    def synchronize(self) -> None:
        """Wait for the device; only before a clock is read."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()


def choose_runtime(
    device: str, precision: Precision, device_key: str = "device", precision_key: str = "precision"
) -> Runtime:
    """`auto` takes CUDA, then MPS, then the CPU, and bf16 where the hardware computes in it.

    Raises:
        ConfigError: a device that is not there, a precision that it does not have.
    """
    where = _device(device, device_key)
    has_bf16 = _has_bf16(where)
    if precision == "tf32" and where.type != "cuda":
        raise ConfigError(f"{precision_key}: tf32 needs an NVIDIA GPU, the device is {where.type}; use auto or fp32")
    if precision == "bf16" and where.type == "mps":
        raise ConfigError(f"{precision_key}: bf16 is not supported on mps; use auto or fp32")
    bf16 = precision == "bf16" or (precision == "auto" and has_bf16)
    return Runtime(where, torch.bfloat16 if bf16 else None, precision == "tf32")


def autotune(on: bool) -> None:
    """Whether cuDNN times its convolutions and takes the fastest.

    It may take another one in the next process, which rounds differently: a run that is to resume bit for bit leaves it
    off, and then has deterministic ones.
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
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(device.type, False) or (
        device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()
    ):
        raise ConfigError(f"{key}: {name} is not there; use {' or '.join(['auto', *(d for d in there if there[d])])}")
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        if not hasattr(torch.cpu, "get_capabilities"):  # torch 2.11 and older only have the private question
            return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())
        has = torch.cpu.get_capabilities()
        return bool(has.get("avx512_bf16") or has.get("amx_bf16"))
    return False
