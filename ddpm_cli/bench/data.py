"""ddpm bench what=data."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .. import console
from ..build import Node
from ..data.images import Batch
from ..files import shown
from .figures import Figure
from .hardware import peak_memory, surroundings
from .report import report
from .subject import subject_of
from .train import WAITING
from .windows import Done, clock_of, repeated


class Drawing:
    """Batch after batch, and nothing done with them."""

    def __init__(self, batches: Iterator[Batch]):
        self.batches = batches

    def __call__(self) -> Done:
        return Done(len(next(self.batches).x))


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
    """Draw batches alone, and in training, where the step waits for them.

    Raises:
        ConfigError: a number out of range, parts that do not go together.
    """
    clock = clock_of(windows, seconds, warmup)
    console.show_config(config, f"ddpm bench: {shown(folder)}")
    subject = subject_of(config, seed, trust)
    clock = clock._replace(synchronize=subject.runtime.synchronize)
    works = {"alone": repeated(Drawing(subject.batches())), "training": repeated(subject.stepping())}
    with console.Counter() as progress:
        found = clock.rounds(works, progress)
    memory = peak_memory(subject.runtime)
    figures = [
        Figure("alone", "batches alone", "images/s", [w.rate for w in found["alone"]]),
        Figure("training", "the same in training", "images/s", [w.rate for w in found["training"]]),
        Figure("waiting", "share of a step that waits", "share",
               [w.waited for w in found["training"]], WAITING),
        Figure("load", f"reading {len(subject.images):,} images", "s", [subject.took.load]),
        *([Figure("memory", "peak memory", "bytes", [memory])] if memory is not None else []),
    ]  # fmt: skip
    protocol = {"windows": windows, "seconds": seconds, "warmup": warmup, "weights": "random", "seed": seed}
    machine = surroundings(subject.runtime, subject.compiled)
    report(folder, "data", f"{subject.title()}, random weights", figures, protocol, machine, config)
