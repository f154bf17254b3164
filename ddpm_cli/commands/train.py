"""ddpm train."""

import logging
from pathlib import Path
from typing import Any

from .. import console
from ..build import Node, build
from ..diffusion.denoiser import Denoiser
from ..errors import ConfigError, Stopped
from ..training.loop import finished, train
from ..training.resume import starting_point
from ..training.run import Run
from ..training.runtime import choose
from ..training.setup import looks, prepare
from .assemble import about, check, check_seed, labels_of, network, row_of, shown, summary, wrapper_of

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
    wrap = wrapper_of(config, runtime, loss)
    described = wrap(network(config))
    if generates := isinstance(described, Denoiser):
        check(described, draw)
    with Run(folder, config, console.TrainingView(plan.max_seconds), logger["name"] == "tensorboard") as place:
        console.show_config(config, f"ddpm train: {shown(folder)}")
        with console.Counter() as progress:
            images, validation = source.load("train", progress), source.load("val", progress)
        module = network(config, images)  # this also writes into config what only the data can tell
        if plan.best_by_validation and not len(validation):
            raise ConfigError("trainer.best_by: there are no held-out images; set dataset.val_fraction=0.1")
        start = starting_point(folder, resume, config)
        state = prepare(module, adam, plan, runtime, start, loss)
        if finished(state, plan, len(images)):
            console.note(f"{shown(folder)}: is finished (step {state.step}); set a higher trainer.steps to go on")
            return
        labels = labels_of(module, images.classes, plan.samples)
        see = looks(state, wrap, loss, draw, images.shape, validation, plan, labels)
        place.columns = row_of(labels)
        place.open(state.step, about(images))
        log.info("%s", summary(runtime, images, state.module))
        if start is not None:
            log.info("going on from step %d (%s)", start.step, shown(start.path))
        if not train(loss, wrap(state.module), state, images, plan, place, see, seed):
            raise Stopped(place.stop_signal, f"{shown(folder)}: stopped and saved at step {state.step}")
    why = "" if state.step >= plan.length(len(images)) else f", after trainer.max_seconds={plan.max_seconds:g}"
    use = (
        "draw from it with ddpm sample ckpt"
        if generates
        else "guide with ddpm sample guidance=classifier guidance.classifier"
    )
    console.note(f"finished at step {state.step}{why}: {use}={shown(folder)}")
