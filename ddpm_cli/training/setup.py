"""From a network and a plan to everything the loop needs."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..data.images import Images
from ..diffusion.denoiser import Denoiser
from ..diffusion.samplers import Sampler
from ..errors import ConfigError
from ..hardware.compiling import compile_call, mode_of
from ..hardware.options import CompileSetting
from ..hardware.runtime import Runtime, autotune
from ..objectives.base import Objective
from ..objectives.latent import LatentModel
from ..runs.checkpoint import Checkpoint
from .auto import Auto
from .ema import EMA
from .plan import Plan
from .state import TrainState
from .validation import Looks, held_out, pairs, preview, validation_loss

Wrap = Callable[[nn.Module], nn.Module]


def prepare(
    module: nn.Module,
    optimizer: Callable[..., Optimizer],
    plan: Plan,
    runtime: Runtime,
    start: Checkpoint | None,
    objective: Objective,
    wrap: Wrap | None = None,
    data: Images | None = None,
) -> TrainState:
    """The state to train from: on the device, with what `start` holds when there is one, compiled when asked.

    Args:
        wrap, data: what trains and on which images; without them, `auto` neither compiles nor parts batches.
    """
    if plan.gradient_checkpointing:
        recompute(module)
    autotune(plan.autotune)
    module = runtime.prepare(module)
    ema = (
        EMA(module, plan.ema) if plan.ema.decay > 0 else None
    )  # copied before compiling: it is only looked at now and then
    try:
        chosen = optimizer(module.parameters())
    except ValueError as error:
        raise ConfigError(f"optimizer: {error}") from error
    times = getattr(objective, "times", None)
    state = TrainState(module, chosen, ema, times if isinstance(times, nn.Module) else None)
    if start is not None:
        state.load(start)
        state.choose_best_by(plan.measured_by)
    auto = Auto(objective, wrap(module), state, plan, runtime.device, data) if wrap and data is not None else None
    _compile(state, plan, runtime.device, start is not None, auto)
    if plan.micro_batch_size == "auto" and auto is not None and "micro_batch_size" not in state.chosen:
        state.chosen["micro_batch_size"] = auto.part()
    return state


def recompute(module: nn.Module) -> None:
    """Let every block that can compute anew in the backward pass what it would remember. Raises ConfigError without."""
    blocks = [part for part in module.modules() if hasattr(part, "recompute")]
    if not blocks:
        raise ConfigError(
            "trainer.gradient_checkpointing: this model has no blocks for it; "
            "use trainer.micro_batch_size=auto, or model=unet, unet_small or unet_tiny"
        )
    for block in blocks:
        block.recompute = True  # type: ignore[assignment]


def _compile(state: TrainState, plan: Plan, device: torch.device, resumed: bool, auto: Auto | None) -> None:
    """A run that goes on stays as it was begun: compiled and plain code round differently."""
    setting: CompileSetting = plan.compile
    if setting == "auto" and resumed:
        before = state.chosen.get("compile", "compiled" if device.type == "cuda" else "eager")
        setting = "graphs" if before == "graphs" else before == "compiled"
    mode = mode_of(setting, device, lambda: auto is not None and auto.worth_compiling(), "trainer.compile")
    state.chosen["compile"] = mode

    def failed() -> None:
        state.chosen["compile"] = "eager"

    compile_call(state.module, mode, True, key="trainer.compile", on_failure=failed)


def looks(
    state: TrainState,
    wrap: Callable[[nn.Module], nn.Module],
    objective: Objective,
    sampler: Sampler,
    shape: Sequence[int],
    validation: Images,
    plan: Plan,
    labels: Tensor | None = None,
    glance: Callable[[nn.Module], dict[str, float]] | None = None,
) -> Looks:
    """Validation loss and sample grids (of an autoencoder, reconstructions), both with the averaged weights.

    Args:
        glance: what else is measured of the model whenever it is validated.
    """
    model = wrap(state.weights)
    few = held_out(validation, plan.eval_images)
    sample = None
    if isinstance(model, Denoiser):
        sample = preview(model, sampler, shape, plan.samples, labels)
    elif isinstance(model, LatentModel) and len(few):
        sample = pairs(model, few, plan.samples)

    def validate() -> dict[str, float]:
        return validation_loss(objective, model, few, plan.batch_size) | (glance(model) if glance else {})

    return Looks(validate if len(few) else None, sample)
