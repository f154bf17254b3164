"""Decides whether a network is compiled, and runs compiled networks.

`auto` decides from the config and the network alone, never from measured times: compiled and eager code round
differently, and two runs of the same command must give the same result. On a CPU it never compiles: models/kernels.py
already has the speed that fusing would gain there, and large networks are slower compiled. The constants for CUDA are
cautious guesses (benchmarks/compiling.py measures them).
"""

import importlib.util
import logging
import os
import shutil
import sysconfig
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..signals import shielded
from .options import CompileMode, CompileSetting

log = logging.getLogger(__name__)


class CompileCost(NamedTuple):
    """Speed without compiling, and the cost of compiling, on one kind of device.

    Args:
        rate: floating-point operations per second without compiling.
        call: minimum seconds of a call per parameter tensor, however small the network is.
        training, sampling: seconds to compile, per parameter tensor.
        payback: compile a workload that takes at least this many times as long as compiling does.
    """

    rate: float
    call: float
    training: float
    sampling: float
    payback: float


# With payback = 12, compiling pays off if it makes the workload a twelfth faster.
COSTS = {"cuda": CompileCost(2e13, 5e-5, 0.4, 0.3, 12)}
"""Device type -> cost; on other devices `auto` does not compile."""


def estimated_seconds(flops: float, calls: float, tensors: int, device: torch.device) -> float:
    """Rough seconds of eager code for `calls` calls of a network with `tensors` parameter tensors.

    Args:
        flops: floating-point operations of all calls together.
    """
    cost = COSTS[device.type]
    return max(flops / cost.rate, calls * cost.call * tensors)


def break_even_seconds(tensors: int, device: torch.device, training: bool) -> float:
    """Seconds of eager code above which compiling pays off; infinite if unknown."""
    if device.type not in COSTS:
        return float("inf")
    cost = COSTS[device.type]
    return tensors * cost.payback * (cost.training if training else cost.sampling)


def resolve_mode(setting: CompileSetting, device: torch.device, pays_off: Callable[[], bool], key: str) -> CompileMode:
    """The mode that `setting` means on this machine; logs one line if a tool for compiling is missing.

    Args:
        pays_off: called for `auto`, only if the device can compile.
        key: the key of the setting, for the log line.
    """
    if setting is False or (setting == "auto" and (device.type not in COSTS or not pays_off())):
        return "eager"
    missing = missing_tool(device)
    if missing:
        level = logging.INFO if setting == "auto" else logging.WARNING
        log.log(level, "%s: no %s found; the network runs uncompiled", key, missing)
        return "eager"
    if setting == "graphs" and device.type != "cuda":
        log.warning("%s: CUDA graphs need a CUDA device; compiling without them", key)
    return "graphs" if setting == "graphs" and device.type == "cuda" else "compiled"


def missing_tool(device: torch.device) -> str | None:
    """The name of a missing tool that compiling needs; None if all are installed."""
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        return "triton"
    compiler = os.environ.get("CXX")
    if not any(map(shutil.which, [compiler] if compiler else ["g++", "clang++", "cl"])):
        return "C++ compiler"
    return None if (Path(sysconfig.get_path("include")) / "Python.h").is_file() else "Python.h"


class Compiled:
    """The call of a module, compiled for certain batch sizes. Other sizes, such as a short last batch, run eagerly.

    So do calls of the other kind (validation of a network in training), and all calls after compiling has failed.

    Args:
        training: True = compile calls that record gradients, False = those that do not.
        sizes: the batch sizes; empty = the size of the first batch.
        key: the key of the setting, for the log line on failure.
        on_failure: called when compiling fails.
    """

    def __init__(
        self,
        module: nn.Module,
        mode: CompileMode,
        training: bool,
        sizes: Collection[int] = (),
        key: str = "compile",
        on_failure: Callable[[], None] = lambda: None,
    ):
        # it warns about CUDA on machines without it
        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
        self.plain = module._call_impl
        self.graphs = mode == "graphs"
        options: dict[str, Any] = {"mode": "reduce-overhead"} if self.graphs else {}
        self.fast: Callable[..., Any] | None = torch.compile(self.plain, dynamic=False, **options)
        self.training, self.sizes, self.key, self.on_failure = training, set(sizes), key, on_failure
        self.done: set[int] = set()

    def __call__(self, x: Tensor, *rest: Any) -> Any:
        size = len(x)
        self.sizes = self.sizes or {size}
        if self.fast is None or size not in self.sizes or torch.is_grad_enabled() != self.training:
            return self.plain(x, *rest)
        if size in self.done:
            return self._run(x, *rest)
        try:
            out = self._compile(x, *rest)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # tracing, the compiler or its processes can raise almost anything
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            log.warning("%s: compiling failed (%s); continuing uncompiled", self.key, reason)
            self.fast = None
            self.on_failure()
            return self.plain(x, *rest)
        self.done.add(size)
        return out

    def forget(self) -> None:
        """Compile for the size of the next batch, as the first one was too large for memory."""
        self.sizes, self.done = set(), set()

    def _compile(self, *args: Any) -> Any:
        """The first call with a batch size.

        Ctrl-C must not end the C++ compiler: torch may then take other vector instructions, and a step without
        compiling rounds differently. On a GPU torch's compilers have processes of their own.
        """
        shield = shielded() if args[0].device.type == "cpu" else nullcontext()
        with shield, nullcontext() if self.graphs else _backward_too():
            return self._run(*args)

    def _run(self, *args: Any) -> Any:
        assert self.fast is not None
        if not self.graphs:
            return self.fast(*args)
        torch.compiler.cudagraph_mark_step_begin()
        out = self.fast(*args)
        return out.clone() if isinstance(out, Tensor) else out  # the next call overwrites the output of the graph


def _backward_too() -> AbstractContextManager[None]:
    """The forward call compiles the backward one, too. Otherwise its failure would come later, and end the run."""
    from torch._functorch import config

    patched: AbstractContextManager[None] = config.patch(force_non_lazy_backward_lowering=True)
    return patched


def compile_call(module: nn.Module, mode: CompileMode, training: bool, **options: Any) -> None:
    """Compile calls of `module` unless `mode` is eager; see `Compiled`. Copies of the module are not compiled."""
    if mode != "eager":
        log.info("%s: compiling the network; the first call takes longer", options.get("key", "compile"))
        module._compiled_call_impl = Compiled(module, mode, training, **options)
