"""From a network and a plan to everything the loop needs."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.optim import Optimizer

from ..data.images import Images
from ..diffusion.denoiser import Denoiser
from ..diffusion.samplers import Sampler
from ..errors import ConfigError
from ..objectives.base import Objective
from ..objectives.latent import LatentModel
from .checkpoint import Checkpoint
from .ema import EMA
from .looks import Looks, held_out, pairs, preview, validation_loss
from .plan import Plan
from .runtime import Runtime, compiles
from .state import TrainState


def prepare(
    module: nn.Module,
    optimizer: Callable[..., Optimizer],
    plan: Plan,
    runtime: Runtime,
    start: Checkpoint | None,
    objective: Objective,
) -> TrainState:
    """The state to train from: on the device, with what `start` holds when there is one, compiled when asked."""
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
    if compiles(plan.compile, runtime.device):
        module.compile()
    return state


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
