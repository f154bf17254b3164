"""A stand-in for the device `mps`: tensors that say they are there, computed on the CPU, and refused where MPS refuses.

Refused are float64 (MPS has none) and operations of a tensor on the device with one on the CPU, other than a number.
Not covered: which operations MPS has, how it rounds, its memory, and whether kernels are correct there.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

DEVICE = torch.device("mps")
NO_FLOAT64 = "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64"

WRONG_NUMBER = "torch 2.12 takes the first number of the storage for this view of another one (pytorch issue 187117)"


class OnDevice(Tensor):
    """A tensor on the device. torch itself takes it for one on the CPU, so autograd works as there."""

    elem: Tensor

    @staticmethod
    def __new__(cls, elem: Tensor) -> "OnDevice":
        if elem.dtype in (torch.float64, torch.complex128):
            raise TypeError(NO_FLOAT64)
        made: OnDevice = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, elem.shape, strides=elem.stride(), storage_offset=elem.storage_offset(), dtype=elem.dtype
        )
        made.elem = elem
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return DEVICE

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"OnDevice({self.elem!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        inputs: dict[int, OnDevice] = {}

        def unwrapped(value: Any) -> Any:
            if isinstance(value, OnDevice):
                inputs[id(value.elem)] = value
                return value.elem
            backward = func is torch.ops.aten.stack.default  # torch makes its zeros where it takes the others to be
            mixes = func is torch.ops.aten.copy_.default or (backward and isinstance(value, Tensor) and not value.any())
            if isinstance(value, Tensor) and value.dim() > 0 and not mixes:
                raise RuntimeError(f"{func}: Expected all tensors to be on the same device, but found mps:0 and cpu")
            if isinstance(value, Tensor) and value.storage_offset() and value.dtype != torch.float64:
                raise RuntimeError(f"{func}: {WRONG_NUMBER}")
            return value

        def wrapped(value: Any) -> Any:
            if not isinstance(value, Tensor) or isinstance(value, OnDevice):
                return value
            return inputs[id(value)] if id(value) in inputs else OnDevice(value)

        with torch.inference_mode(False), torch.no_grad():  # one kind of tensor, whatever mode the caller is in
            return tree_map(wrapped, func(*tree_map(unwrapped, args), **tree_map(unwrapped, kwargs or {})))


class _ToHost(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: OnDevice) -> Tensor:
        return tensor.elem.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # type: ignore[override]
        return OnDevice(grad)


class _ToDevice(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return OnDevice(tensor.detach().clone())

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Tensor:  # type: ignore[override]
        return grad.elem


def _is_device(value: Any) -> bool:
    return isinstance(value, str | torch.device) and torch.device(value).type == DEVICE.type


class Generator(torch.Generator):
    """The device has generators of its own."""

    def __new__(cls, device: Any = "cpu") -> torch.Generator:  # type: ignore[misc]
        return super().__new__(cls, "cpu") if _is_device(device) else _Generator(device)


_Generator = torch.Generator


class Simulated(TorchFunctionMode):
    """Makes every call of torch see the device."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (Tensor.to, Tensor.cpu):
            return _moved(args[0], "cpu") if func is Tensor.cpu else _moved(*args, **kwargs)
        if func in (Tensor.numpy, Tensor.__array__) and isinstance(args[0], OnDevice):
            raise TypeError("can't convert mps:0 device type tensor to numpy. Use Tensor.cpu() first")
        if func is Tensor.tolist and isinstance(args[0], OnDevice):
            return args[0].elem.detach().tolist()
        there = _is_device(kwargs.get("device")) or any(isinstance(a, OnDevice) for a in args)
        if (generator := kwargs.get("generator")) is not None and isinstance(generator, Generator) != there:
            raise RuntimeError(f"{func}: Expected a {'mps' if there else 'cpu'} device type for generator")
        if _is_device(kwargs.get("device")):
            with torch.inference_mode(False), torch.no_grad():
                made = func(*args, **{**kwargs, "device": "cpu"})
            return OnDevice(made) if isinstance(made, Tensor) and not isinstance(made, OnDevice) else made
        return func(*args, **kwargs)


def _moved(tensor: Tensor, *args: Any, copy: bool = False, **kwargs: Any) -> Tensor:
    """Tensor.to, which may also change the dtype and the memory layout."""
    device, dtype, _, layout = torch._C._nn._parse_to(*args, **kwargs)  # type: ignore[attr-defined]
    other = next((v for v in (*args, *kwargs.values()) if isinstance(v, OnDevice)), None)
    there = isinstance(tensor, OnDevice)
    wanted = there if device is None else other is not None or device.type == DEVICE.type
    if there and not wanted:
        tensor = _ToHost.apply(tensor)
    if dtype is not None and dtype != tensor.dtype:
        tensor = tensor.type(dtype)
    if wanted and not there:
        tensor = _ToDevice.apply(tensor)
    elif copy and wanted == there:
        tensor = tensor.clone()
    return tensor if layout is None else tensor.contiguous(memory_format=layout)


@contextmanager
def simulated() -> Iterator[None]:
    """The device is there inside the context, for threads that start in it too."""
    run: Callable[..., None] = threading.Thread.run

    def run_simulated(thread: threading.Thread) -> None:
        with Simulated():
            run(thread)

    overwrite = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)  # parameters become tensors of another class
    try:
        with _patched(run_simulated):
            yield
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(overwrite)


@contextmanager
def _patched(run: Callable[..., None]) -> Iterator[None]:
    with (
        mock.patch.object(torch.backends.mps, "is_available", cache(lambda: True)),
        mock.patch.object(torch, "Generator", Generator),
        mock.patch.object(torch.mps, "synchronize", lambda: None),
        mock.patch.object(threading.Thread, "run", run),
        Simulated(),
    ):
        yield
