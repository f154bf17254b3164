"""Duration, batch size, logging and checkpoint intervals of a run: plain values from conf/trainer.

Torch is not imported here, so that mistakes are reported before that takes seconds.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from ..hardware.options import CompileSetting, Precision
from ..text import PathText

UNKNOWN = 2**40
"""The number of steps of a run whose speed is not known yet."""
LIMITS = {"batch_size": 10**6, "samples": 10**6, "eval_samples": 10**6, "epochs": 10**9, "steps": 2**62}
"""The most images of a batch or a grid, and the most epochs and steps."""
UNITS = {"s": 1, "min": 60, "h": 3600}
Every = int | Literal["epoch"]
"""A number of steps, 0 = never, or the end of each epoch."""


@dataclass(frozen=True)
class Decay:
    """The decay of the average of the weights.

    Args:
        decay: in [0, 1); 0 keeps no average.
        warmup: use min(decay, (1 + n) / (10 + n)) after n updates, so that the random initial weights fade quickly.
    """

    decay: float = 0.999
    warmup: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay: must be in [0, 1), got {self.decay}")

    def at(self, n: int) -> float:
        return min(self.decay, (1 + n) / (10 + n)) if self.warmup else self.decay


@dataclass(frozen=True)
class Plan:
    """See conf/trainer/default.yaml for what each key means. Counts are in optimizer steps, 0 means never.

    Raises:
        ValueError: a value out of range, named first.
    """

    steps: int = 100_000
    epochs: float | None = None
    max_seconds: float | None = None
    budget: float | str | None = None
    batch_size: int = 128
    micro_batch_size: int | Literal["auto"] | None = None
    gradient_checkpointing: bool = False
    device: str = "auto"
    devices: int = 1
    strategy: Literal["auto"] = "auto"
    precision: Precision = "auto"
    compile: CompileSetting = "auto"
    autotune: bool = False
    grad_clip: float | None = 1.0
    on_nan: Literal["stop", "skip"] = "stop"
    warmup_steps: int = 0
    lr_decay: Literal["auto", "constant", "cosine", "steps"] = "auto"
    lr_milestones: Sequence[float] = ()
    lr_factor: float = 0.1
    ema: Decay = field(default_factory=Decay)
    log_every: Every = 50
    save_every: Every = 1000
    save_seconds: float | None = 300.0
    sample_every: Every = 1000
    eval_every: Every = 1000
    samples: int = 64
    eval_images: int | None = 1024
    keep_last: int = 3
    features: PathText | None = None
    eval_samples: int = 256
    best_by: Literal["loss", "val_loss", "val_accuracy", "fd"] | None = None

    def __post_init__(self) -> None:
        at_least = {"batch_size": 1, "samples": 1, "eval_samples": 2, "keep_last": 2, "warmup_steps": 0, "steps": 0}
        at_least |= dict.fromkeys(("log_every", "save_every", "sample_every", "eval_every"), 0)
        for name, least in at_least.items():
            if getattr(self, name) != "epoch" and getattr(self, name) < least:
                raise ValueError(f"{name}: must be at least {least}, got {getattr(self, name)}")
        if self.epochs == math.inf:
            raise ValueError("epochs: must be a number; to train until it is stopped, set trainer.max_seconds")
        for name, most in LIMITS.items():
            if getattr(self, name) is not None and getattr(self, name) > most:
                raise ValueError(f"{name}: must be at most {most:,.0f}, got {getattr(self, name)}")
        for name in ("epochs", "max_seconds", "micro_batch_size", "grad_clip", "save_seconds", "eval_images"):
            value = getattr(self, name)
            if value not in (None, "auto") and not value > 0:
                raise ValueError(f"{name}: must be positive or null, got {value}")
        if self.best_by == "fd" and self.features is None:
            raise ValueError("best_by: fd needs the features of a classifier; set trainer.features=RUN of a classifier")
        if self.devices != 1:
            raise ValueError(f"devices: must be 1, got {self.devices}; this version trains on one device")
        needed = None if self.best_by is None else "eval_every" if self.best_by_validation else "log_every"
        if needed and not getattr(self, needed):
            raise ValueError(f"best_by: {self.best_by} needs trainer.{needed} above 0, or epoch")

        if self.budget is not None:
            object.__setattr__(self, "budget_seconds", seconds_of(self.budget))
            if self.lr_decay == "steps":
                raise ValueError("lr_decay: steps cannot be combined with a budget; use cosine or constant")
        if self.lr_decay == "auto":
            object.__setattr__(self, "lr_decay", "constant" if self.budget is None else "cosine")
        if not self.lr_factor > 0:
            raise ValueError(f"lr_factor: must be positive, got {self.lr_factor}")
        if self.lr_decay == "steps" and min(self.lr_milestones, default=0) <= 0:
            raise ValueError(
                f"lr_milestones: needs positive epochs with lr_decay=steps, got {list(self.lr_milestones)}"
            )

    budget_seconds: float | None = field(default=None, init=False)

    def undecided(self) -> "Plan":
        """The plan of a run with a budget until its number of steps is decided."""
        return replace(self, steps=UNKNOWN, epochs=None)

    @property
    def limit(self) -> float | None:
        """The seconds of training that the run will take at most, if that is known."""
        return min((s for s in (self.max_seconds, self.budget_seconds) if s is not None), default=None)

    @property
    def best_by_validation(self) -> bool:
        """Whether the best checkpoint is chosen by held-out images."""
        return self.best_by in ("val_loss", "val_accuracy", "fd")

    @property
    def measured_by(self) -> str | None:
        """How the best checkpoint is chosen. Only values measured in the same way are compared."""
        return f"fd of {self.eval_samples} samples seen by {self.features}" if self.best_by == "fd" else self.best_by

    def due(self, every: Every, step: int, images: int) -> bool:
        """Whether an action with the interval `every` is due after `step` steps (from 1) with `images` training images.

        A batch may span two epochs: an epoch ends with the step that uses its last image.
        """
        if every == "epoch":
            return step * self.batch_size // images > (step - 1) * self.batch_size // images
        return every > 0 and step % every == 0

    def length(self, images: int) -> int:
        """The number of steps with `images` training images."""
        return math.ceil(self.epochs * images / self.batch_size) if self.epochs is not None else self.steps

    def learning_rate(self, step: float, total: int, images: int) -> float:
        """The factor on optimizer.lr at `step` (from 0) of `total`: linear warm-up, then constant or half a cosine.

        With lr_decay="steps", it is multiplied by lr_factor at each milestone, in epochs of `images` images.
        """
        warm = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        if self.lr_decay == "constant":
            return warm
        if self.lr_decay == "steps":
            passed = sum(step * self.batch_size >= epoch * images for epoch in self.lr_milestones)
            return warm * self.lr_factor**passed
        fraction = (step - self.warmup_steps) / max(total - self.warmup_steps, 1)
        return warm * 0.5 * (1 + math.cos(math.pi * min(max(fraction, 0.0), 1.0)))


def seconds_of(budget: float | str) -> float:
    """90, "90s", "10min" or "1h30min" -> seconds. Raises ValueError for anything else."""
    text = str(budget).replace(" ", "")
    parts = re.findall(r"(\d+(?:\.\d*)?)(s|min|h)", text)
    if isinstance(budget, str) and parts and "".join(n + unit for n, unit in parts) == text:
        seconds = sum(float(n) * UNITS[unit] for n, unit in parts)
    else:
        try:
            seconds = float(text)
        except ValueError:
            seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ValueError(f"budget: must be a time such as 90s, 10min or 2h, got {budget!r}")
    return seconds
