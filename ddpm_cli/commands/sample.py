"""ddpm sample."""

import time
from pathlib import Path
from typing import Any, Literal

import torch

from .. import console
from ..build import Node, build
from ..errors import ConfigError
from ..files import shown
from ..hardware.options import CompileSetting, Precision
from ..progress import counter
from ..render.pixels import to_uint8
from ..runs.assemble import check_positive, check_seed
from ..runs.load import Loaded, finite
from ..sampling.batching import Size, Speed
from ..sampling.folder import SampleFolder, row_of_samples
from ..sampling.generator import Direct, Prior, open_run
from ..sampling.inputs import Request
from ..sampling.plan import Plan, plan_of

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
    batch_size: Size,
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
    compile: CompileSetting,
    out: str,
    trust: list[str],
    debug: bool,
) -> None:
    """Draw `n` images from a checkpoint into `folder`."""
    check_seed(seed)
    check_positive(n=n, batch_size=1 if batch_size == "auto" else batch_size)
    if n > MOST:
        raise ConfigError(f"n: at most {MOST:,} at a time, got {n:,}; call again with another seed")
    request = Request(init, mask, between, strength, resample, jump)
    output = SampleFolder(folder)
    build(sampler, "sampler")  # a wrong one is said before a checkpoint is read
    loaded, asked = open_run(ckpt, weights, device, precision, trust), (label, labels)
    plan = plan_of(request, loaded, sampler, guidance, trust, n, seed, asked, prior, pixel_noise)
    task, speed = plan.task, Speed(loaded, n, plan.task.calls, batch_size)
    console.show_config(loaded.used(config), f"ddpm sample: {shown(folder)}")
    began = time.perf_counter()
    how = {"batch_size": speed.batch_size, "compile": speed.compile(compile)}
    with console.Counter() as progress:
        images = task.images(n, speed.batch_size, counter(progress, task.steps, n), shrink=batch_size == "auto")
        batches = [to_uint8(finite(batch)) for batch in images]
    seconds = time.perf_counter() - began
    facts = _facts(loaded, plan, n, len(batches), seconds) | how
    pixels, columns = torch.cat(batches), row_of_samples(plan.labels, n, between is not None)
    output.write(pixels, plan.labels, columns, facts, {name: to_uint8(x) for name, x in task.inputs.items()})
    console.show_pictures(pixels, columns, f"{n} images in {seconds:.1f} s: {shown(folder)}/grid.png")


def _facts(loaded: Loaded | Direct, plan: Plan, n: int, batches: int, seconds: float) -> dict[str, Any]:
    """What sample.json says. `sampler` and `guidance` are null where nothing is sampled step by step."""
    task, labels = plan.task, plan.labels
    return {
        **loaded.facts(),
        "task": task.facts,
        "sampler": plan.facts.get("sampler"),
        "guidance": plan.facts.get("guidance"),
        "steps": task.steps,
        "network_calls": task.calls * batches,
        "n": n,
        "seeds": plan.seeds if task.facts["name"] != "between_seeds" else None,
        "labels": labels.tolist() if labels is not None else None,
        "seconds": round(seconds, 3),
        "images_per_second": round(n / seconds, 3),
    }
