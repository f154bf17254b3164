"""ddpm sample."""

import math
import time
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from .. import console
from ..build import Node, build
from ..diffusion.samplers import Sampler
from ..errors import ConfigError
from ..render.pixels import to_uint8
from ..training.plan import Precision
from .assemble import check, check_positive, check_seed, shown
from .direct import Direct, Prior, open_run
from .direct_task import check_diffusion, check_unguided, direct_task
from .draw import Asked, draw_of
from .guided import guided
from .inputs import Request
from .loaded import Loaded, counter, finite
from .output import SampleFolder, row_of_samples
from .tasks import Task, task_of

MOST = 1_000_000
"""Images of one call: they are kept in memory until all are drawn."""


def run(
    config: dict[str, Any],
    folder: Path,
    *,
    sampler: Node,
    guidance: Node,
    ckpt: str,
    n: int,
    batch_size: int,
    seed: int,
    label: int | str | None,
    labels: list[int | str] | None,
    init: str | None,
    mask: str | None,
    between: list[int | str] | None,
    strength: float | None,
    resample: int | None,
    jump: int | None,
    prior: Prior,
    pixel_noise: bool,
    weights: Literal["ema", "raw"],
    device: str,
    precision: Precision,
    out: str,
    trust: list[str],
    debug: bool,
) -> None:
    """Draw `n` images from a checkpoint into `folder`."""
    check_seed(seed)
    check_positive(n=n, batch_size=batch_size)
    if n > MOST:
        raise ConfigError(f"n: at most {MOST:,} at a time, got {n:,}; call again with another seed")
    request = Request(init, mask, between, strength, resample, jump)
    output = SampleFolder(folder)
    drawer = build(sampler, "sampler")
    loaded, asked = open_run(ckpt, weights, device, precision, trust), (label, labels)
    if isinstance(loaded, Direct):
        plan = at_once(request, loaded, guidance, n, seed, asked, prior, pixel_noise)
    else:
        check_diffusion(prior, pixel_noise)
        plan = step_by_step(request, loaded, drawer, sampler, guidance, trust, n, seed, asked)
    console.show_config(config, f"ddpm sample: {shown(folder)}")
    began = time.perf_counter()
    with console.Counter() as progress:
        task = plan.task
        images = finite(torch.cat(list(task.images(n, batch_size, counter(progress, task.steps, n)))))
    seconds = time.perf_counter() - began
    facts = _facts(loaded, plan, n, batch_size, seconds)
    pixels, columns = to_uint8(images), row_of_samples(plan.labels, n, between is not None)
    output.write(pixels, plan.labels, columns, facts, {name: to_uint8(x) for name, x in task.inputs.items()})
    console.show_pictures(pixels, columns, f"{n} images in {seconds:.1f} s: {shown(folder)}/grid.png")


class Plan(NamedTuple):
    """What draws the images. seeds: one for each; labels (n,) or None; facts: sampler and guidance."""

    task: Task
    seeds: list[int]
    labels: Tensor | None
    facts: dict[str, Any]


def step_by_step(
    request: Request,
    loaded: Loaded,
    drawer: Sampler,
    sampler: Node,
    guidance: Node,
    trust: list[str],
    n: int,
    seed: int,
    asked: Asked,
) -> Plan:
    """With a diffusion model."""
    check(loaded.model, drawer)
    guide = guided(guidance, loaded, trust)
    draw = draw_of(request, loaded, drawer, guide, n, seed, asked)
    name = type(drawer).__name__.lower()
    chosen = {k: v for k, v in sampler.items() if k != "_target_"} | {"name": name}
    facts = {"sampler": chosen, "guidance": guide.facts}
    return Plan(task_of(request, draw), list(draw.seeds), draw.known_labels, facts)


def at_once(
    request: Request,
    loaded: Direct,
    guidance: Node,
    n: int,
    seed: int,
    asked: Asked,
    prior: Prior,
    pixel_noise: bool,
) -> Plan:
    """With an autoencoder or a mixture. Raises ConfigError for what only diffusion models can do."""
    check_unguided(guidance, asked)
    along = request.between is not None
    if along and n < 2:
        raise ConfigError(f"n: the way between two images needs at least 2, got {n}")
    seeds = [0] * n if along else list(range(seed, seed + n))
    weights = torch.linspace(0, 1, n, dtype=torch.float64) if along else None
    return Plan(direct_task(request, loaded, seeds, prior, pixel_noise, weights), seeds, None, {})


def _facts(loaded: Loaded | Direct, plan: Plan, n: int, batch_size: int, seconds: float) -> dict[str, Any]:
    """What sample.json says. `sampler` and `guidance` are null where nothing is sampled step by step."""
    task, labels = plan.task, plan.labels
    return {
        **loaded.facts(),
        "task": task.facts,
        "sampler": plan.facts.get("sampler"),
        "guidance": plan.facts.get("guidance"),
        "steps": task.steps,
        "network_calls": task.calls * math.ceil(n / batch_size),
        "n": n,
        "batch_size": batch_size,
        "seeds": plan.seeds if task.facts["name"] != "between_seeds" else None,
        "labels": labels.tolist() if labels is not None else None,
        "seconds": round(seconds, 3),
        "images_per_second": round(n / seconds, 3),
    }
