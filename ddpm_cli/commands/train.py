"""ddpm train."""

import logging
from pathlib import Path
from typing import Any

from torch import nn

from .. import console
from ..build import Node, build
from ..diffusion.classifier import NoisyClassifier
from ..diffusion.denoiser import Denoiser
from ..errors import ConfigError, Stopped
from ..evaluation.monitor import glance_of
from ..files import shown
from ..hardware.runtime import choose
from ..objectives.em import EM
from ..objectives.latent import LatentModel
from ..render.pixels import row_of
from ..runs.assemble import about, check, check_seed, labels_of, network, summary, wrapper_of
from ..runs.directory import Run
from ..runs.resume import starting_point
from ..training.best import verdict_of
from ..training.em_session import fit_mixture
from ..training.loop import finished, train
from ..training.prior import complete, forget_prior, lacks_prior
from ..training.setup import looks, prepare
from ..training.validation import columns_of_pairs

log = logging.getLogger(__name__)


def run(
    config: dict[str, Any],
    folder: Path,
    *,
    seed: int,
    run_dir: str | int,
    resume: bool | str,
    trust: list[str],
    debug: bool,
    objective: Node,
    optimizer: Node,
    schedule: Node,
    weighting: Node,
    times: Node,
    sampler: Node,
    trainer: Node,
    logger: Node,
    model: Node,
    dataset: Node,
) -> None:
    """Train what `config` describes in `folder`. Everything is checked before the first file is written."""
    check_seed(seed)
    if run_dir == "":
        raise ConfigError("run_dir: is empty; name a directory, or leave it out")
    if logger.get("name") not in ("tensorboard", "none"):
        raise ConfigError(f"logger.name: must be tensorboard or none, got {logger.get('name')!r}")
    config["run_dir"] = shown(folder)  # in a sweep, the job's own
    plan, source, draw = build(trainer, "trainer"), build(dataset, "dataset"), build(sampler, "sampler")
    runtime = choose(plan.device, plan.precision, "trainer.device", "trainer.precision")
    loss, adam = build(objective, "objective"), build(optimizer, "optimizer")
    if isinstance(loss, EM):
        return fit_mixture(config, folder, loss, plan, source, seed, resume, logger["name"] == "tensorboard")
    wrap = wrapper_of(config, runtime, loss)
    described = wrap(network(config))
    if isinstance(described, Denoiser):
        check(described, draw)
    with Run(folder, config, console.TrainingView(plan.max_seconds), logger["name"] == "tensorboard") as place:
        console.show_config(config, f"ddpm train: {shown(folder)}")
        with console.Counter() as progress:
            images, validation = source.load("train", progress), source.load("val", progress)
            verdict = verdict_of(loss, plan, source, validation, progress)
        module = network(config, images)  # this also writes into config what only the data can tell
        if plan.best_by_validation and not len(validation):
            raise ConfigError("trainer.best_by: there are no held-out images; set dataset.val_fraction=0.1")
        start = starting_point(folder, resume, config)
        state = prepare(module, adam, plan, runtime, start, loss, wrap, images)
        latent = isinstance(described, LatentModel)
        lacks = verdict.due(folder, state) or (latent and lacks_prior(state))
        if finished(state, plan, len(images)) and not lacks:
            console.note(f"{shown(folder)}: is finished (step {state.step}); set a higher trainer.steps to go on")
            return
        if not finished(state, plan, len(images)):
            forget_prior(state)
        labels = labels_of(module, images.classes, plan.samples)
        glance = glance_of(
            plan, draw, validation, labels_of(module, images.classes, plan.eval_samples), trust, described
        )
        see = looks(state, wrap, loss, draw, images.shape, validation, plan, labels, glance)
        place.columns = columns_of_pairs(plan.samples) if latent else row_of(labels)
        place.caption = "Upper of two rows: real; lower: reconstructed" if latent else None
        place.open(state.step, about(images))
        log.info("%s", summary(runtime, images, state.module))
        if start is not None:
            log.info("going on from step %d of %d (%s)", start.step, plan.length(len(images)), shown(start.path))
        elif isinstance(described, NoisyClassifier):
            place.graph(state.module, images.shape)
        if not train(loss, wrap(state.module), state, images, plan, place, see, seed):
            raise Stopped(place.stop_signal, f"{shown(folder)}: stopped and saved at step {state.step}")
        if latent and not complete(state, wrap, images, validation, plan, place, seed):
            raise Stopped(place.stop_signal, f"{shown(folder)}: stopped before its prior was fitted")
        verdict(place, state, wrap)
        log.info("finished at step %d", state.step)
    why = "" if state.step >= plan.length(len(images)) else f", after trainer.max_seconds={plan.max_seconds:g}"
    console.note(f"finished at step {state.step}{why}: {_next(described, shown(folder))}")


def _next(model: nn.Module, run: str) -> str:
    """What a user would do with it now."""
    if isinstance(model, NoisyClassifier):
        return f"judge it with ddpm eval ckpt={run}, or guide with guidance=classifier guidance.classifier={run}"
    learned = isinstance(model, Denoiser) and model.learned_variance
    return f"draw from it with ddpm sample ckpt={run}{' sampler=ddpm sampler.variance=learned' if learned else ''}"
