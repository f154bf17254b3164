"""What samplers get wrong, drawn from a model that is known exactly."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from omegaconf import OmegaConf
from torch import Tensor

from .. import console
from ..build import Node, build
from ..config.shipped import conf_dir
from ..diffusion.generate import start, walk
from ..diffusion.oracle import GaussianMixture, Oracle
from ..diffusion.samplers import Sampler
from ..diffusion.schedule import Schedule
from ..errors import ConfigError
from ..files import shown, write_json
from ..metrics.points import covariance_error, mean_error, sliced_wasserstein
from ..render.plots.samplers import samplers_plot
from ..runs.assemble import check_positive, check_seed, network_calls
from .mixtures import mixture_of

EXACT = 5
"""Sets of exact points, whose errors are luck alone."""


class Row(NamedTuple):
    """One sampler with so many steps. Errors as `metrics.points` has them."""

    sampler: str
    steps: int
    calls: int
    mean: float
    covariance: float
    distance: float


def run(
    config: dict[str, Any],
    folder: Path,
    *,
    schedule: Node,
    mixture: str,
    samplers: list[str] | None,
    steps: list[int],
    n: int,
    seed: int,
    out: str,
    trust: list[str],
    debug: bool,
) -> None:
    """Every sampler on an exact model, into `folder`: bench.json and samplers.png."""
    check_seed(seed)
    check_positive(steps=min(steps, default=0))
    if n < 2:
        raise ConfigError(f"n: must be at least 2, to have a covariance, got {n}")
    truth, noise = mixture_of(mixture), build(schedule, "schedule")
    chosen = list(dict.fromkeys(samplers or _names()))  # named twice is drawn once
    drawers = [(name, count, _sampler(name, count, noise)) for name in chosen for count in dict.fromkeys(steps)]
    console.show_config(config, f"ddpm bench: {shown(folder)}")
    floor = [_row("exact", 0, 0, truth.sample(n, _generator(seed + 3 + i)), truth, seed) for i in range(EXACT)]
    rows = []
    with console.Counter() as progress:
        for i, (name, count, sampler) in enumerate(drawers, start=1):
            points = _draw(sampler, truth, noise, n, seed)
            rows.append(_row(name, count, network_calls(sampler, noise), points, truth, seed))
            progress("drawing", i, len(drawers))
    facts = {"mixture": mixture, "schedule": dict(schedule), "n": n, "seed": seed}
    found = {"exact": [r._asdict() for r in floor], "rows": [r._asdict() for r in rows], "protocol": facts}
    write_json(folder / "bench.json", found)
    curves = {name: [(r.calls, r.distance) for r in rows if r.sampler == name] for name in chosen}
    band = (min(r.distance for r in floor), max(r.distance for r in floor))
    samplers_plot(folder / "samplers.png", curves, band, f"{mixture}, {type(noise).__name__}, {n:,} points")
    names = ["sampler", "steps", "calls", "mean", "covariance", "sliced W2"]
    console.table(
        f"errors of {n:,} points; exact: {EXACT} sets of exact ones", names, [_text(r) for r in (*rows, *floor)]
    )
    console.note(f"figures in {shown(folder)}/bench.json, plot in {shown(folder)}/samplers.png")


def _text(row: Row) -> list[str]:
    counts = [str(v) if v else "" for v in (row.steps, row.calls)]
    return [row.sampler, *counts, *(f"{v:.4f}" for v in (row.mean, row.covariance, row.distance))]


def _names() -> list[str]:
    return sorted(p.stem for p in (conf_dir() / "sampler").glob("*.yaml"))


def _sampler(name: str, steps: int, schedule: Schedule) -> Sampler:
    """The shipped YAML, unclipped: the mixture has no bounds.

    Raises:
        ConfigError: a name that is not there, more steps than the schedule has.
    """
    file = conf_dir() / "sampler" / f"{name}.yaml"
    if name not in _names():
        raise ConfigError(f"samplers: there is no {name!r}; choose from {', '.join(_names())}")
    node = OmegaConf.to_container(OmegaConf.load(file))
    assert isinstance(node, dict)
    sampler: Sampler = build({**node, "steps": steps, "clip": False}, "sampler")  # type: ignore[dict-item]
    try:
        sampler.length(schedule)
    except ValueError as error:
        raise ConfigError(str(error)) from error  # the key is `steps` here, not `sampler.steps`
    return sampler


def _draw(sampler: Sampler, truth: GaussianMixture, schedule: Schedule, n: int, seed: int) -> Tensor:
    g = _generator(seed)
    x = torch.randn(n, truth.means.shape[1], generator=g, dtype=torch.float64)
    frames = walk(
        Oracle(truth, schedule), schedule, sampler, start(schedule, x),
        lambda like: torch.randn(like.shape, generator=g, dtype=like.dtype),
    )  # fmt: skip
    last = None
    for last in frames:  # noqa: B007
        pass
    assert last is not None
    return last.x


def _row(name: str, steps: int, calls: int, points: Tensor, truth: GaussianMixture, seed: int) -> Row:
    exact = truth.sample(len(points), _generator(seed + 2))
    return Row(
        name,
        steps,
        calls,
        mean_error(points, truth.mean, truth.covariance),
        covariance_error(points, truth.covariance),
        sliced_wasserstein(points, exact),
    )


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
