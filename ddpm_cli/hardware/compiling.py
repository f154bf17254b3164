"""Whether a network is compiled, and its call when it is.

`auto` decides from the config and the network alone, never by a stopwatch: compiled and plain code round differently,
and two runs of one command must be the same. On a CPU it never compiles: what fusing wins there, the network's faster
pieces (models/kernels.py) have won already, and large networks are slower compiled. The constants for CUDA are cautious
guesses (benchmarks/compiling.py measures).
"""

import importlib.util
import logging
import os
import shutil
import sysconfig
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .options import CompileMode, CompileSetting

log = logging.getLogger(__name__)


class CompileCost(NamedTuple):
    """What compiling takes and gives on one kind of device.

    Args:
        rate: floating point operations a second without compiling.
        call: seconds that a call takes at least for each parameter tensor, however small the network is.
        training, sampling: seconds to compile for each parameter tensor.
        payback: compile what takes so many times as long as compiling does.
    """

    rate: float
    call: float
    training: float
    sampling: float
    payback: float


# At `payback` times its cost, compiling has been paid back where it takes off a twelfth.
COSTS = {"cuda": CompileCost(2e13, 5e-5, 0.4, 0.3, 12)}
"""By kind of device; on the others `auto` does not compile."""


def estimated_seconds(flops: float, calls: float, tensors: int, device: torch.device) -> float:
    """How long plain code takes, roughly, for `calls` calls of a network with so many parameter tensors.

    Args:
        flops: of all calls together.
    """
    cost = COSTS[device.type]
    return max(flops / cost.rate, calls * cost.call * tensors)


def break_even_seconds(tensors: int, device: torch.device, training: bool) -> float:
    """Seconds of plain code from which on compiling pays; infinite where it is not known to."""
    if device.type not in COSTS:
        return float("inf")
    cost = COSTS[device.type]
    return tensors * cost.payback * (cost.training if training else cost.sampling)


def resolve_mode(setting: CompileSetting, device: torch.device, pays_off: Callable[[], bool], key: str) -> CompileMode:
    """What `setting` comes to here; one line where the tools to compile are missing.

    Args:
        pays_off: called by `auto`, only where it can compile at all.
        key: of the setting, for the line.
    """
    if setting is False or (setting == "auto" and (device.type not in COSTS or not pays_off())):
        return "eager"
    missing = missing_tool(device)
    if missing:
        level = logging.INFO if setting == "auto" else logging.WARNING
        log.log(level, "%s: not compiled, as there is no %s here", key, missing)
        return "eager"
    if setting == "graphs" and device.type != "cuda":
        log.warning("%s: graphs are for CUDA; compiling without", key)
    return "graphs" if setting == "graphs" and device.type == "cuda" else "compiled"


def missing_tool(device: torch.device) -> str | None:
    """What compiling needs and is not there."""
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        return "triton"
    named = os.environ.get("CXX")
    if not any(map(shutil.which, [named] if named else ["g++", "clang++", "cl"])):
        return "C++ compiler"
    return None if (Path(sysconfig.get_path("include")) / "Python.h").is_file() else "Python.h"


class Compiled:
    """The call of a module, compiled for batches of some sizes. Others, as a short last one, run as they are.

    So do calls of the other kind (validation of a network that trains), and every call once compiling has failed.

    Args:
        training: compiled where gradients are recorded, else where they are not.
        sizes: of the batches; empty = the size of the first one.
        key: of the setting, for the line when it fails.
        on_failure: called when it fails.
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
        # it warns of CUDA where there is none
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
            out = self._run(x, *rest)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # of tracing, of the compiler or of its processes: nearly anything
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            log.warning("%s: compiling failed (%s); going on without", self.key, reason)
            self.fast = None
            self.on_failure()
            return self.plain(x, *rest)
        self.done.add(size)
        return out

    def _run(self, *args: Any) -> Any:
        assert self.fast is not None
        if not self.graphs:
            return self.fast(*args)
        torch.compiler.cudagraph_mark_step_begin()
        out = self.fast(*args)
        return out.clone() if isinstance(out, Tensor) else out  # the next call writes over what the graph gave


def compile_call(module: nn.Module, mode: CompileMode, training: bool, **options: Any) -> None:
    """Let `module(...)` run compiled unless `mode` is eager; see `Compiled`. Copies of the module are not compiled."""
    if mode != "eager":
        log.info("%s: compiling the network; the first call takes the longer", options.get("key", "compile"))
        module._compiled_call_impl = Compiled(module, mode, training, **options)
