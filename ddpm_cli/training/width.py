"""`model.channels=auto`: how wide the network should be, from the speed of the machine and the time to train.

A wide network learns more from each step, a narrow one makes more steps. Which is better after a given time depends on
how many steps the machine can make; see "What fits the budget" in docs/quality.md for the runs behind the table. A
narrower network also learns best at a higher rate, in inverse proportion, and the less it has learned, the stronger is
the guidance that gives the best samples.
"""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import nn
from torch.optim import Optimizer

from ..data.images import Images
from ..models.unet import USUAL_WIDTH
from ..progress import duration
from ..runs.assemble import ModelSpec, network
from ..runs.checkpoint import Checkpoint
from .loop import update
from .plan import Plan
from .setup import prepare

log = logging.getLogger(__name__)
AUTO = "auto"


class Fit(NamedTuple):
    """width: `model.channels`; guidance: a factor on `guidance.scale`."""

    width: int
    guidance: float


USUAL = Fit(USUAL_WIDTH, 1.0)
FITS = {400: Fit(16, 5 / 3), 1000: Fit(32, 4 / 3), 2000: Fit(48, 1.0)}
"""Steps that a network of the usual width can make in the time -> what fits fewer steps than that."""
WIDEST, STRONGEST = 4096, 1e6
"""Width and scale of guidance of a run that is resumed; more is damage."""
TRIED, FIRST = 4, 1
"""Steps that are timed, and steps before them, which are slower."""
clock: Callable[[], float] = time.perf_counter


def with_width(
    config: Mapping[str, Any],
    start: Checkpoint | None,
    given: Callable[[str], bool],
    choose: Callable[[Mapping[str, Any]], Fit],
) -> Mapping[str, Any]:
    """The config with a number as `model.channels`, and with the learning rate and guidance for it.

    They are those of the run to resume from, or a new choice.

    Args:
        start: the checkpoint to resume from.
        given: whether the user set a key or group, which then stays.
        choose: called with the config of a network of the usual width.
    """
    if config["model"].get("channels") != AUTO:
        return config
    usual = {**config, "model": {**config["model"], "channels": USUAL_WIDTH}}
    optimizer, guidance = dict(config["optimizer"]), dict(config.get("guidance") or {})
    scale = guidance.get("scale")
    width: int | None
    if start is None:
        width, factor = choose(usual)
        scale = None if scale is None else round(scale * factor, 2)
    else:
        width, scale = _of_run(start.manifest.get("config"), scale)
        if width is None:  # it has another model, which `check_resumable` reports
            return usual
        log.info("model.channels: auto keeps the run's %d channels; to choose again, use a new run_dir", width)
    changed = []
    if not given("optimizer.lr") and optimizer.get("lr") and width != USUAL_WIDTH:
        optimizer["lr"] = optimizer["lr"] * USUAL_WIDTH / width
        changed.append(f"optimizer.lr={optimizer['lr']:g}")
    if not given("guidance") and scale is not None and scale != guidance["scale"]:
        guidance["scale"] = scale
        if config["model"].get("num_classes") != 0:  # without classes there is nothing to guide by
            changed.append(f"guidance.scale={scale:g}")
    if changed and start is None:
        log.info("settings for this width: %s", ", ".join(changed))
    model = {**config["model"], "channels": width}
    return {**config, "model": model, "optimizer": optimizer, "guidance": guidance}


def _of_run(config: Any, scale: float | None) -> tuple[int | None, float | None]:
    """The width and the scale of guidance in a run's config, a stranger's data; None and `scale` if there are none."""
    config = config if isinstance(config, Mapping) else {}
    nodes = (config.get(name) for name in ("model", "guidance"))
    model, guidance = (node if isinstance(node, Mapping) else {} for node in nodes)
    width, own = model.get("channels"), guidance.get("scale")
    fits = type(width) is int and 0 < width <= WIDEST
    scaled = scale is not None and own is not None and type(own) in (int, float) and abs(own) <= STRONGEST
    return width if fits else None, own if scaled else scale


def fit(
    config: Mapping[str, Any],
    optimizer: Callable[..., Optimizer],
    plan: Plan,
    spec: ModelSpec,
    images: Images,
    spent: float,
) -> Fit:
    """What fits the budget of `plan`, after timing a few steps of a network of the usual width.

    Without a budget it is that network.

    Args:
        config: of a network of the usual width.
        spent: seconds of the budget that are already gone.
    """
    if plan.budget_seconds is None:
        return USUAL
    log.info("model.channels: auto is timing a network of %d channels for a few seconds", USUAL_WIDTH)
    seconds = step_seconds(network(config), optimizer, plan, spec, images, int(config["seed"]))
    steps = max(0.0, plan.budget_seconds - spent) / seconds
    best = fit_for(steps)
    log.info(
        "model.channels: auto chooses %d; a network of %d channels would make about %d steps in %s",
        best.width, USUAL_WIDTH, round(steps, -1 if steps >= 100 else 0), duration(plan.budget_seconds),
    )  # fmt: skip
    return best


def fit_for(steps: float) -> Fit:
    """What is best where a network of the usual width can make so many steps."""
    return next((best for fewer, best in FITS.items() if steps < fewer), USUAL)


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
        if sum(times) > 0.02 * (plan.budget_seconds or 0) and len(times) > 1:
            break
    return min(times[1:])
