"""Draws the samples of a task and collects the facts for sample.json."""

import math
import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ..hardware.options import CompileSetting
from ..progress import Progress, counter, silent
from ..render.pixels import to_uint8
from .batching import Batching
from .samples import Samples
from .task import Task, finite


class Pipeline:
    """Draws a task when called.

    Args:
        facts: facts about the run, for sample.json.
        interpolated: whether the images are an interpolation.
    """

    def __init__(
        self, task: Task, batching: Batching, compile: CompileSetting, facts: Mapping[str, Any], interpolated: bool
    ):
        self.task, self.batching, self.compile = task, batching, compile
        self.facts, self.interpolated = dict(facts), interpolated

    def __call__(self, progress: Progress = silent) -> Samples:
        """Draw all images. Raises NonFiniteError for NaN or infinity."""
        began, task = time.perf_counter(), self.task
        how = {"batch_size": self.batching.batch_size, "compile": self.batching.compile(self.compile)}
        batches = [to_uint8(images) for _, images in self._drawn(progress)]
        seconds = time.perf_counter() - began
        facts = {
            **self._described(len(batches)),
            "n": task.n,
            "seeds": self._seeds(range(task.n)),
            "labels": None if task.labels is None else task.labels.tolist(),
            "seconds": round(seconds, 3),
            "images_per_second": round(task.n / seconds, 3),
            **how,
        }
        inputs = {name: to_uint8(image) for name, image in task.inputs.items()}
        return Samples(torch.cat(batches), task.labels, facts["seeds"], facts, inputs, self.interpolated)

    def batches(self, progress: Progress = silent) -> Iterator[Samples]:
        """Draw the images batch by batch."""
        facts = self.described
        for rows, images in self._drawn(progress):
            labels = None if self.task.labels is None else self.task.labels[rows.start : rows.stop]
            yield Samples(
                to_uint8(images), labels, self._seeds(rows), facts | {"n": len(rows)}, interpolated=self.interpolated
            )

    @property
    def described(self) -> dict[str, Any]:
        """How the images will be drawn. `sampler` and `guidance` are None for models that sample in one pass."""
        return self._described(math.ceil(self.task.n / self.batching.batch_size))

    def _described(self, batches: int) -> dict[str, Any]:
        task = self.task
        return {
            **self.facts,
            "task": task.facts["task"],
            "sampler": task.facts.get("sampler"),
            "sampler_from": task.facts.get("sampler_from"),
            "guidance": task.facts.get("guidance"),
            "guidance_from": task.facts.get("guidance_from"),
            "steps": task.steps,
            "network_calls": task.calls * batches,
        }

    def _drawn(self, progress: Progress) -> Iterator[tuple[range, Tensor]]:
        on_step = counter(progress, self.task.steps, self.task.n)
        shrink = self.batching.requested == "auto"
        for rows, images in self.task.batches(self.batching.batch_size, on_step, shrink):
            yield rows, finite(images)

    def _seeds(self, rows: range) -> list[int] | None:
        """The seeds of `rows`; None for an interpolation between two seeds, which are in the facts of the task."""
        between = self.task.facts["task"]["name"] == "between_seeds"
        return None if between else [self.task.seeds[i] for i in rows]
