"""The loop of `ddpm train` for a window of time: its batches, steps, meter and log lines, on nothing that is kept."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from ..data.images import Batch, Images
from ..runs.checkpoint import Checkpoint
from ..runs.directory import Run, State
from ..training.loop import train
from ..training.validation import Looks
from .subject import Subject
from .windows import Done


class Silent:
    """A reporter that shows nothing: the terminal's own line would stand in the table's place."""

    def start(self, step: int, total: int) -> None: ...

    def advance(self, step: int, seconds: float) -> None: ...

    def metrics(self, step: int, row: Mapping[str, Any]) -> None: ...

    def pictures(self, step: int, path: Path, pixels: Tensor, across: int | None) -> None: ...

    def stop(self) -> None: ...


class Passing(Run):
    """Writes log lines as a run does, into a folder that its user throws away, and no checkpoint."""

    def __enter__(self) -> "Passing":
        super().__enter__()
        if self._tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.folder / "tensorboard"))
        return self

    def save(self, state: State, keep_last: int, best_by: str | None) -> Checkpoint:
        return Checkpoint(self.folder, {})


class Watched:
    """The same batches, with the time that went into waiting for them."""

    def __init__(self, images: Images):
        self.images, self.waiting = images, 0.0

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, size: int, seed: int, start: int = 0, device: torch.device | str = "cpu") -> Iterator[Batch]:
        batches = self.images.batches(size, seed, start, device)
        while True:
            began = time.perf_counter()
            batch = next(batches)
            self.waiting += time.perf_counter() - began
            yield batch


class Session:
    """A work of windows: `train` until the time is up. `run` is where it logs."""

    def __init__(self, subject: Subject, run: Run):
        self.subject, self.run = subject, run
        self.rates = [group["lr"] for group in subject.state.optimizer.param_groups]

    def __call__(self, seconds: float) -> Done:
        s, watched = self.subject, Watched(self.subject.images)
        for group, rate in zip(s.state.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate  # a session takes what it finds for the rate that its plan multiplies
        first, s.state.seconds = s.state.step, 0.0
        plan = replace(s.plan, max_seconds=max(seconds, 1e-9))
        train(s.objective, s.model, s.state, cast(Images, watched), plan, self.run, Looks(), s.seed)
        return Done((s.state.step - first) * s.plan.batch_size, watched.waiting)
