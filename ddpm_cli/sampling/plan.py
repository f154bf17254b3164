"""What draws the images of `ddpm sample` and `ddpm eval`, whatever the model is."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..build import Node, build
from ..diffusion.samplers import Sampler
from ..errors import ConfigError
from ..runs.assemble import check
from ..runs.load import Loaded
from .generator import Direct, Prior
from .guidance import guided
from .inputs import Request
from .latent_tasks import check_diffusion, check_unguided, direct_task
from .rows import Asked, draw_of
from .tasks import Task, task_of


class Plan(NamedTuple):
    """What draws the images. seeds: one for each; labels (n,) or None; facts: sampler and guidance."""

    task: Task
    seeds: list[int]
    labels: Tensor | None
    facts: dict[str, Any]


def step_by_step(
    request: Request,
    loaded: Loaded,
    sampler: Node,
    guidance: Node,
    trust: list[str],
    n: int,
    seed: int,
    asked: Asked,
) -> Plan:
    """With a diffusion model."""
    drawer: Sampler = build(sampler, "sampler")
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


def plan_of(
    request: Request,
    loaded: Loaded | Direct,
    sampler: Node,
    guidance: Node,
    trust: list[str],
    n: int,
    seed: int,
    asked: Asked,
    prior: Prior = "auto",
    pixel_noise: bool = False,
) -> Plan:
    """`n` images with seeds of their own. Raises ConfigError for what makes no sense with the model."""
    if isinstance(loaded, Direct):
        return at_once(request, loaded, guidance, n, seed, asked, prior, pixel_noise)
    check_diffusion(prior, pixel_noise)
    return step_by_step(request, loaded, sampler, guidance, trust, n, seed, asked)
