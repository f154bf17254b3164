"""Builds the training state (optimizer, average, compilation) from a network and a plan."""

import logging
import re
from collections.abc import Callable

import torch
from torch import nn
from torch.optim import Optimizer

from ..data.images import Images
from ..errors import ConfigError
from ..hardware.compiling import compile_call, resolve_mode
from ..hardware.options import CompileSetting
from ..hardware.runtime import autotune
from ..models.layers import Checkpointed
from ..runs.assemble import ModelSpec
from ..runs.checkpoint import Checkpoint
from .auto import Auto
from .ema import EMA
from .fitting import warn_of_batch_norm
from .plan import Plan
from .state import TrainState

log = logging.getLogger(__name__)


IN_TORCH = {"beta parameter at index 0": "betas", "beta parameter at index 1": "betas", "epsilon": "eps"}
"""What torch calls the options of its optimizers, where it is not their name."""


def _of_optimizer(message: str) -> str:
    """An error of an optimizer of torch, with the key that it is about."""
    found = re.fullmatch(r"Invalid (.+?)(?: value)?: (.*)", message)
    if not found:
        return f"optimizer: {message}"
    key = IN_TORCH.get(found[1], found[1].replace("learning rate", "lr"))
    limits = "at least 0 and below 1" if key == "betas" else "at least 0"
    return f"optimizer.{key}: must be {limits}, got {found[2]}"


def prepare(
    module: nn.Module,
    optimizer: Callable[..., Optimizer],
    plan: Plan,
    spec: ModelSpec,
    start: Checkpoint | None,
    data: Images | None = None,
) -> TrainState:
    """The state to train from: on the device, loaded from `start` if given, compiled if the plan says so.

    Args:
        data: the training images; without them, `auto` neither compiles nor splits batches.
    """
    if plan.gradient_checkpointing:
        recompute(module)
    autotune(plan.autotune)
    runtime, objective = spec.runtime, spec.objective
    module = runtime.prepare(module)
    # copied before compiling: the average is rarely used for forward passes
    ema = EMA(module, plan.ema) if plan.ema.decay > 0 else None
    try:
        chosen = optimizer(module.parameters())
    except (TypeError, ValueError) as error:
        raise ConfigError(_of_optimizer(str(error))) from error
    times = getattr(objective, "times", None)
    state = TrainState(module, chosen, ema, times if isinstance(times, nn.Module) else None)
    if start is not None:
        state.load(start)
        state.choose_best_by(plan.measured_by)
    auto = None
    if data is not None:
        auto = Auto(objective, spec.wrap(module), state, plan, runtime.device, data)
    _compile(state, plan, runtime.device, start is not None, auto)
    if plan.micro_batch_size == "auto" and auto is not None and "micro_batch_size" not in state.chosen:
        state.chosen["micro_batch_size"] = auto.micro_batch()
    warn_of_batch_norm(module, state.micro_batch(plan.micro_batch_size, plan.batch_size), plan.batch_size)
    return state


def missing_attention(module: nn.Module) -> str:
    """A line if the network has no level for one of its `attention_resolutions`; otherwise ""."""
    unused, levels = getattr(module, "unused_attention", ()), getattr(module, "levels", ())
    if not unused:
        return ""
    key, sides = "model.attention_resolutions", ", ".join(map(str, levels))
    advice = f"set for example {key}=[{levels[len(levels) // 2]}], or [] for none but in the middle"
    return f"{key}: there is no level of {unused[0]}, only {sides}; {advice}"


def recompute(module: nn.Module) -> None:
    """Turn on gradient checkpointing in every block that has it. Raises ConfigError when there is no such block."""
    blocks = [layer for layer in module.modules() if isinstance(layer, Checkpointed)]
    if not blocks:
        raise ConfigError(
            "trainer.gradient_checkpointing: not supported by this model; "
            "use trainer.micro_batch_size=auto, or model=unet, unet_small or unet_tiny"
        )
    for block in blocks:
        block.recompute = True


def _compile(state: TrainState, plan: Plan, device: torch.device, resumed: bool, auto: Auto | None) -> None:
    """A resumed run stays compiled or not, as it was started: compiled and plain code round differently."""
    setting: CompileSetting = plan.compile
    if setting == "auto" and resumed:
        before = state.chosen.get("compile", "compiled" if device.type == "cuda" else "eager")
        setting = "graphs" if before == "graphs" else before == "compiled"
    mode = resolve_mode(setting, device, lambda: auto is not None and auto.worth_compiling(), "trainer.compile")
    state.chosen["compile"] = mode

    def failed() -> None:
        state.chosen["compile"] = "eager"

    compile_call(state.module, mode, True, key="trainer.compile", on_failure=failed)
