"""ddpm bench what=sample."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from .. import console
from ..build import Node
from ..files import shown
from ..runs.assemble import check_positive, check_seed
from .figures import Figure
from .flops import call_flops
from .hardware import Product, begin_memory, peak_memory, surroundings
from .painter import Calling, Painter, Painting, painter_of
from .report import report
from .train import over
from .windows import Done, Window, clock_of, repeated


def run(
    config: dict[str, Any],
    folder: Path,
    *,
    ckpt: str | None,
    batch_size: int,
    windows: int,
    seconds: float,
    warmup: float,
    seed: int,
    out: str,
    trust: list[str],
    debug: bool,
    **groups: Node,
) -> None:
    """Draw for some windows of time and throw the images away.

    Raises:
        ConfigError: a number out of range, parts that do not go together.
        CheckpointError: a checkpoint that is missing, damaged or a classifier.
    """
    check_seed(seed)
    check_positive(batch_size=batch_size)
    clock = clock_of(windows, seconds, warmup)
    painter = painter_of(config, ckpt, batch_size, seed, trust)
    console.show_config(config, f"ddpm bench: {shown(folder)}")
    clock = clock._replace(synchronize=painter.runtime.synchronize)
    calling = Calling(painter)
    flops = call_flops(painter.model, calling.x[:1], None if calling.y is None else calling.y[:1])
    begin_memory(painter.runtime)
    painting = Painting(painter)
    first = clock.measure(repeated(painting), 0.0)
    clock.measure(repeated(painting), warmup)
    memory = peak_memory(painter.runtime)
    works: dict[str, Callable[[], Done]] = {"drawing": painting, "network": calling, "peak": Product(painter.runtime)}
    with console.Counter() as progress:
        found = clock.rounds({name: repeated(step) for name, step in works.items()}, progress)
    figures = figures_of(painter.calls, flops, found, first, memory)
    weights = "random" if ckpt is None else ckpt
    protocol = {
        "windows": windows, "seconds": seconds, "warmup": warmup, "weights": weights, "seed": seed,
        "batch_size": batch_size, "calls_per_image": painter.calls,
    }  # fmt: skip
    title = _title(painter, "random weights" if ckpt is None else f"weights of {ckpt}")
    report(folder, "sample", title, figures, protocol, surroundings(painter.runtime, False), config)


def figures_of(
    calls: int, flops: float, found: dict[str, list[Window]], first: Window, memory: int | None
) -> list[Figure]:
    """`found` has windows of "drawing" and "network" (calls times images) and "peak" (FLOP); flops are of a call."""
    drawing, network = ([w.rate for w in found[name]] for name in ("drawing", "network"))
    peak = max(w.rate for w in found["peak"])
    achieved = [rate * flops for rate in drawing]
    return [
        Figure("sampling", "sampling", "images/s", [rate / calls for rate in drawing]),
        Figure("calls", "network calls times images", "calls/s", drawing),
        Figure("network", "the network alone", "calls/s", network),
        Figure("overhead", "sampling's overhead", "share", over(network, drawing)),
        Figure("first_step", "first step", "s", [first.seconds]),
        *([Figure("memory", "peak memory", "bytes", [memory])] if memory is not None else []),
        Figure("flops_call", "a call for an image", "FLOP", [flops]),
        Figure("flops", "an image", "FLOP", [flops * calls]),
        Figure("achieved", "arithmetic a second", "FLOP/s", achieved),
        Figure("peak", "best matrix product", "FLOP/s", [peak]),
        Figure("share_of_peak", "share of it", "share", [a / peak for a in achieved]),
    ]


def _title(painter: Painter, weights: str) -> str:
    c, h, w = painter.shape
    count = sum(p.numel() for p in painter.model.parameters())
    name = type(painter.sampler).__name__
    return (
        f"{name}, {painter.calls} calls an image, {count:,} parameters, {painter.batch_size} images of {h}x{w}x{c} "
        f"at once, {painter.runtime}, {torch.get_num_threads()} threads, {weights}"
    )
