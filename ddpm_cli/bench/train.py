"""ddpm bench what=train."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import console
from ..build import Node
from ..files import shown
from .bare import Bare
from .figures import Figure
from .hardware import Product, peak_memory, surroundings
from .report import report
from .subject import Subject, subject_of
from .windows import Window, Work, clock_of, repeated
from .works import Passing, Session, Silent

OVERHEAD, WAITING = 0.03, 0.02
"""The most that is aimed at: over a bare loop, and of the time for data."""


def run(
    config: dict[str, Any],
    folder: Path,
    *,
    windows: int,
    seconds: float,
    warmup: float,
    seed: int,
    out: str,
    trust: list[str],
    debug: bool,
    **groups: Node,
) -> None:
    """Train a network with random weights for some windows of time. Nothing is kept but the figures.

    Raises:
        ConfigError: a number out of range, parts that do not go together.
    """
    clock = clock_of(windows, seconds, warmup)
    console.show_config(config, f"ddpm bench: {shown(folder)}")
    subject = subject_of(config, seed, trust)
    clock = clock._replace(synchronize=subject.runtime.synchronize)
    logs = config["logger"].get("name") == "tensorboard"
    with tempfile.TemporaryDirectory() as place, Passing(Path(place), config, Silent(), logs) as passing:
        session = Session(subject, passing)
        clock.measure(session, warmup)
        memory = peak_memory(subject.runtime)  # before anything is there that only measures
        works: dict[str, Work] = {
            "loop": session,
            "steps": repeated(subject.stepping()),
            "bare": repeated(Bare(subject)),
            "peak": repeated(Product(subject.runtime)),
        }
        with console.Counter() as progress:
            found = clock.rounds(works, progress)
    protocol = {"windows": windows, "seconds": seconds, "warmup": warmup, "weights": "random", "seed": seed}
    report(
        folder, "train", f"{subject.title()}, random weights", figures_of(subject, found, memory), protocol,
        surroundings(subject.runtime, subject.compiled), config,
    )  # fmt: skip


def figures_of(subject: Subject, found: Mapping[str, Sequence[Window]], memory: int | None) -> list[Figure]:
    """`found` has windows of "loop", "steps", "bare" (images) and "peak" (FLOP), the i-th of all side by side."""
    loop, steps, bare = ([w.rate for w in found[name]] for name in ("loop", "steps", "bare"))
    peak = max(w.rate for w in found["peak"])
    achieved = [rate * subject.flops.training for rate in loop]
    took = subject.took
    return [
        Figure("training", "training as ddpm train does", "images/s", loop),
        Figure("steps", "steps without its log lines", "images/s", steps),
        Figure("bare", "bare loop of the same work", "images/s", bare),
        Figure("overhead", "training's overhead", "share", over(bare, loop), OVERHEAD),
        Figure("step_overhead", "the steps' overhead", "share", over(bare, steps)),
        Figure("waiting", "waiting for data", "share", [w.waited for w in found["loop"]], WAITING),
        Figure("load", "reading the data", "s", [took.load]),
        Figure("first_step", "first step", "s", [took.first_step]),
        Figure("to_first_step", "all up to the first step", "s", [sum(took)]),
        *([Figure("memory", "peak memory", "bytes", [memory])] if memory is not None else []),
        Figure("flops_forward", "an image forward", "FLOP", [subject.flops.forward]),
        Figure("flops", "an image both ways", "FLOP", [subject.flops.training]),
        Figure("achieved", "arithmetic a second", "FLOP/s", achieved),
        Figure("peak", "best matrix product", "FLOP/s", [peak]),
        Figure("share_of_peak", "share of it", "share", [a / peak for a in achieved]),
    ]


def over(less: Sequence[float], more: Sequence[float]) -> list[float]:
    """By how much longer than `less` the work of `more` takes, window by window, from the rates of both."""
    return [a / b - 1 for a, b in zip(less, more, strict=True)]
