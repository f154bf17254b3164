"""ddpm train of a model that EM fits: no gradients, no device, otherwise a run like any other."""

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import console
from ..data.images import Images
from ..errors import ConfigError, Stopped
from ..files import shown
from ..models.gmm import GMM
from ..objectives.em import EM
from ..runs.assemble import about, network
from ..runs.directory import Run
from ..runs.resume import starting_point
from ..sampling.generator import draws
from .em import EMState, finished, fit
from .plan import Plan
from .randomness import StepRandom
from .validation import VALIDATION, Looks, held_out

log = logging.getLogger(__name__)


def fit_mixture(
    config: dict[str, Any],
    folder: Path,
    objective: EM,
    plan: Plan,
    source: Any,
    seed: int,
    resume: bool | str,
    tensorboard: bool,
) -> None:
    """Fit what `config` describes in `folder`.

    Raises:
        ConfigError: another model than a mixture, options that only gradients have a use for.
    """
    _check(network(config), objective, plan)
    with Run(folder, config, console.TrainingView(plan.max_seconds), tensorboard) as place:
        console.show_config(config, f"ddpm train: {shown(folder)}")
        images, validation = _load(source)
        state = EMState(_check(network(config, images), objective, plan))
        start = starting_point(folder, resume, config)
        if start is not None:
            state.load(start)
        if finished(state, plan):
            how = "EM has converged" if state.converged else "set a higher trainer.steps to go on"
            console.note(f"{shown(folder)}: is finished (step {state.step}); {how}")
            return
        place.open(state.step, about(images))
        c, h, w = images.shape
        log.info("%s images of %dx%dx%d, %d components", f"{len(images):,}", h, w, c, len(state.module.mixture.weights))
        if start is not None:
            log.info("going on from step %d (%s)", start.step, shown(start.path))
        looks = _looks(objective, state.module, validation, plan)
        if not fit(objective, state, images, plan, place, looks, seed):
            raise Stopped(place.stop_signal, f"{shown(folder)}: stopped and saved at step {state.step}")
    how = "converged" if state.converged else "finished"
    console.note(f"{how} at step {state.step}: draw from it with ddpm sample ckpt={shown(folder)}")


def _check(module: torch.nn.Module, objective: EM, plan: Plan) -> GMM:
    try:
        checked = objective.wrap(module)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if not isinstance(checked, GMM):
        raise ConfigError("model: EM fits ddpm_cli.models.gmm.GMM and classes made from it; use model=gmm")
    if plan.epochs is not None:
        raise ConfigError("trainer.epochs: EM looks at all images in each step; set trainer.steps instead")
    for name in ("best_by", "features"):
        if getattr(plan, name) is not None:
            raise ConfigError(f"trainer.{name}: EM never gets worse, its last step is its best; leave it out")
    return checked


def _load(source: Any) -> tuple[Images, Images]:
    with console.Counter() as progress:
        return source.load("train", progress), source.load("val", progress)


def _looks(objective: EM, module: GMM, validation: Images, plan: Plan) -> Looks:
    few = held_out(validation, plan.eval_images)

    def validate() -> dict[str, float]:
        batch = next(few.chunks(len(few)))
        logs = objective(module, batch, StepRandom(VALIDATION, 0, torch.device("cpu"), len(few))).logs
        return {f"val_{name}": float(value) for name, value in logs.items()}

    def sample() -> Tensor:
        return draws(module, range(plan.samples), pixel_noise=False)

    return Looks(validate if len(few) else None, sample)
