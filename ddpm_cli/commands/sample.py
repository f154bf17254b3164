"""ddpm sample."""

import math
import time
from pathlib import Path
from typing import Any, Literal

import torch

from .. import console
from ..build import Node, build
from ..diffusion.generate import generate
from ..render.pixels import to_uint8
from ..training.plan import Precision
from .assemble import check_positive, check_seed, network_calls, row_of, shown
from .loaded import Loaded, counter, finite
from .output import SampleFolder


def run(
    config: dict[str, Any],
    folder: Path,
    *,
    sampler: Node,
    ckpt: str,
    n: int,
    batch_size: int,
    seed: int,
    label: int | str | None,
    labels: list[int | str] | None,
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
    draw = build(sampler, "sampler")
    loaded = Loaded(ckpt, weights, device, precision, trust)
    classes, calls = loaded.labels(n, label, labels), network_calls(draw, loaded.model.schedule)
    seeds = range(seed, seed + n)
    output = SampleFolder(folder)
    console.show_config(config, f"ddpm sample: {shown(folder)}")
    began = time.perf_counter()
    with console.Counter() as progress:
        drawn = generate(
            loaded.model, draw, loaded.shape, seeds, classes, batch_size, counter(progress, draw, loaded, n)
        )
        images = finite(torch.cat(list(drawn)))
    seconds = time.perf_counter() - began
    facts = {
        **loaded.facts(),
        "sampler": {k: v for k, v in sampler.items() if k != "_target_"} | {"name": type(draw).__name__.lower()},
        "steps": calls,
        "network_calls": calls * math.ceil(n / batch_size),
        "n": n,
        "batch_size": batch_size,
        "seeds": list(seeds),
        "labels": classes.tolist() if classes is not None else None,
        "seconds": round(seconds, 3),
        "images_per_second": round(n / seconds, 3),
    }
    pixels, columns = to_uint8(images), row_of(classes)
    output.write(pixels, classes, columns, facts)
    console.show_pictures(pixels, columns, f"{n} images in {seconds:.1f} s: {shown(folder)}/grid.png")
