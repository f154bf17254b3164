"""ddpm sample."""

import math
import time
from pathlib import Path
from typing import Any, Literal

import torch

from .. import console
from ..build import Node, build
from ..errors import ConfigError
from ..render.pixels import to_uint8
from ..training.plan import Precision
from .assemble import check, check_positive, check_seed, shown
from .draw import Draw, draw_of
from .guided import Guided, guided
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
    output, drawer = SampleFolder(folder), build(sampler, "sampler")
    loaded = Loaded(ckpt, weights, device, precision, trust)
    check(loaded.model, drawer)
    guide = guided(guidance, loaded, trust)
    draw = draw_of(request, loaded, drawer, guide, n, seed, (label, labels))
    task = task_of(request, draw)
    console.show_config(config, f"ddpm sample: {shown(folder)}")
    began = time.perf_counter()
    with console.Counter() as progress:
        images = finite(torch.cat(list(task.images(n, batch_size, counter(progress, task.steps, n)))))
    seconds = time.perf_counter() - began
    facts = _facts(draw, task, sampler, guide, batch_size, seconds)
    pixels, columns = to_uint8(images), row_of_samples(draw.known_labels, n, between is not None)
    output.write(pixels, draw.known_labels, columns, facts, {name: to_uint8(x) for name, x in task.inputs.items()})
    console.show_pictures(pixels, columns, f"{n} images in {seconds:.1f} s: {shown(folder)}/grid.png")


def _facts(draw: Draw, task: Task, sampler: Node, guide: Guided, batch_size: int, seconds: float) -> dict[str, Any]:
    """What sample.json says."""
    n, name, labels = len(draw.seeds), type(draw.sampler).__name__.lower(), draw.known_labels
    return {
        **draw.loaded.facts(),
        "task": task.facts,
        "sampler": {k: v for k, v in sampler.items() if k != "_target_"} | {"name": name},
        "guidance": guide.facts,
        "steps": task.steps,
        "network_calls": task.calls * math.ceil(n / batch_size),
        "n": n,
        "batch_size": batch_size,
        "seeds": list(draw.seeds) if task.facts["name"] != "between_seeds" else None,
        "labels": labels.tolist() if labels is not None else None,
        "seconds": round(seconds, 3),
        "images_per_second": round(n / seconds, 3),
    }
