"""`model.channels=auto`: how wide the network should be, from the speed of the machine and the time to train.

A wide network learns more from each step, a narrow one makes more steps. Which is better after a given time depends on
how many steps the machine can make; see "What fits the budget" in docs/quality.md for the runs behind the table. A
narrower network also learns best at a higher rate, in inverse proportion.
"""

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from ..data.images import Images
from ..models.unet import USUAL_WIDTH
from ..progress import duration
from ..runs.assemble import ModelSpec, network
from ..runs.resume import newest
from .loop import update
from .plan import Plan
from .setup import prepare

log = logging.getLogger(__name__)
AUTO = "auto"
WIDTHS = {150: 16, 1000: 32, 2000: 48}
"""Steps that a network of the usual width can make in the time -> the best width for fewer steps than that."""
TRIED, FIRST = 4, 1
"""Steps that are timed, and steps before them, which are slower."""
clock: Callable[[], float] = time.perf_counter


def with_width(
    config: Mapping[str, Any],
    folder: Path,
    resume: bool | str,
    keep_rate: bool,
    choose: Callable[[Mapping[str, Any]], int],
) -> Mapping[str, Any]:
    """The config with a number as `model.channels`, and with the learning rate for it.

    The width is that of the run to resume from, or a new choice.

    Args:
        folder, resume: where to look for that run, see `starting_point`.
        keep_rate: whether the rate of the config stays.
        choose: called with the config of a network of the usual width.

    Raises:
        ConfigError, CheckpointError: as `starting_point`.
    """
    if config["model"].get("channels") != AUTO:
        return config
    found = newest(folder, resume)
    usual = {**config, "model": {**config["model"], "channels": USUAL_WIDTH}}
    width = choose(usual) if found is None else found.manifest.get("config", {}).get("model", {}).get("channels")
    if not isinstance(width, int):  # the run to resume from has another model, which `starting_point` says
        return usual
    optimizer = dict(config["optimizer"])
    if not keep_rate and optimizer.get("lr"):
        optimizer["lr"] = optimizer["lr"] * USUAL_WIDTH / width
    return {**config, "model": {**config["model"], "channels": width}, "optimizer": optimizer}


def fitting_width(
    config: Mapping[str, Any],
    optimizer: Callable[..., Optimizer],
    plan: Plan,
    spec: ModelSpec,
    images: Images,
    spent: float,
) -> int:
    """The best width for the time that `plan` has, after timing a few steps of the usual one.

    Without a limit of time it is the usual one.

    Args:
        config: of a network of the usual width.
        spent: seconds of the budget that are already gone.
    """
    if plan.limit is None:
        return USUAL_WIDTH
    seconds = step_seconds(network(config), optimizer, plan, spec, images, int(config["seed"]))
    steps = max(0.0, plan.limit - spent) / seconds
    width = width_for(steps)
    log.info(
        "model.channels: auto chooses %d; a network of %d channels would make about %d steps in %s",
        width, USUAL_WIDTH, round(steps, -1 if steps >= 100 else 0), duration(plan.limit),
    )  # fmt: skip
    return width


def width_for(steps: float) -> int:
    """The best width where a network of the usual width can make so many steps."""
    return next((width for fewer, width in WIDTHS.items() if steps < fewer), USUAL_WIDTH)


def step_seconds(
    module: nn.Module,
    optimizer: Callable[..., Optimizer],
    plan: Plan,
    spec: ModelSpec,
    images: Images,
    seed: int,
) -> float:
    """The duration of a training step of `module`, which is trained for that."""
    state = prepare(module, optimizer, plan, spec, None)
    model, device, times = spec.wrap(state.module), spec.runtime.device, []
    model.train()
    batches = images.batches(plan.batch_size, seed, 0, device)
    for _ in range(FIRST + TRIED):
        spec.runtime.synchronize()
        before = clock()
        update(spec.objective, model, state, next(batches), plan, seed)
        spec.runtime.synchronize()
        times.append(clock() - before)
        if sum(times) > 0.02 * (plan.limit or 0) and len(times) > 1:
            break
    return min(times[1:])
