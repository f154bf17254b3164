"""Draws the samples of a task and collects the facts for sample.json."""

import hashlib
import logging
import math
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..hardware.options import CompileSetting
from ..progress import Progress, counter, silent
from ..render.pixels import to_uint8
from .batching import Batching
from .kept import Kept
from .samples import Dtype, Samples, in_units
from .task import Task, finite

log = logging.getLogger(__name__)


class Drawn(NamedTuple):
    """What the samples are of.

    Args:
        facts: facts about the run, for sample.json.
        class_names: of the run.
        interpolated: whether the images are an interpolation.
        ends: the stored values of the training pictures that were black and white.
        dtype: of the images in `Samples.units`; uint8 = none.
    """

    facts: Mapping[str, Any]
    class_names: tuple[str, ...] = ()
    interpolated: bool = False
    ends: tuple[float, float] = (0.0, 255.0)
    dtype: Dtype = "uint8"


class Pipeline:
    """Draws a task when called."""

    def __init__(self, task: Task, batching: Batching, compile: CompileSetting, drawn: Drawn):
        self.task, self.batching, self.compile, self.drawn = task, batching, compile, drawn
        self.interpolated = drawn.interpolated

    def __call__(self, progress: Progress = silent, kept: Kept | None = None) -> Samples:
        """Draw all images.

        Args:
            kept: what an earlier call has drawn, which is not drawn again. Not used if `units` are asked for.

        Raises:
            NonFiniteError: a value is NaN or infinite.
            StorageError: the disk has no room for the images.
        """
        began, task = time.perf_counter(), self.task
        how = {"batch_size": self.batching.batch_size, "compile": self.batching.compile(self.compile)}
        batches, units = self._kept(kept), []
        before = sum(map(len, batches))
        if before:
            log.info("continuing at image %d of %d; the ones before are kept", before, task.n)
        for rows, images in self._drawn(progress, before):
            batches.append(to_uint8(images))
            units.append(in_units(images, self.drawn.ends, self.drawn.dtype))
            if kept is not None:
                kept.add(rows.start, batches[-1])
        seconds = time.perf_counter() - began
        facts = {
            **self._described(len(batches)),
            "n": task.n,
            "seeds": self._seeds(range(task.n)),
            "labels": None if task.labels is None else task.labels.tolist(),
            "classes": self._classes(),
            "seconds": round(seconds, 3),
            "images_per_second": round((task.n - before) / seconds, 3),
            **how,
        }
        inputs = {name: to_uint8(image) for name, image in task.inputs.items()}
        parts = [part for part in units if part is not None]
        whole = torch.cat(parts) if parts else None
        return Samples(torch.cat(batches), task.labels, facts["seeds"], facts, inputs, self.interpolated, whole)

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
            **self.drawn.facts,
            "task": task.facts["task"],
            "sampler": task.facts.get("sampler"),
            "sampler_from": task.facts.get("sampler_from"),
            "guidance": task.facts.get("guidance"),
            "guidance_from": task.facts.get("guidance_from"),
            "steps": task.steps,
            "network_calls": task.calls * batches,
        }

    def _kept(self, kept: Kept | None) -> list[Tensor]:
        """The images that were drawn before, batch by batch."""
        if kept is None:
            return []
        request = {**self._described(0), "seeds": list(self.task.seeds), "dtype": self.drawn.dtype}
        request["labels"] = None if self.task.labels is None else self.task.labels.tolist()
        inputs = {name: image.cpu().contiguous().numpy().tobytes() for name, image in self.task.inputs.items()}
        request["inputs"] = {name: hashlib.sha256(data).hexdigest() for name, data in inputs.items()}  # not their paths
        if self.drawn.dtype != "uint8":
            kept.discard()
        return kept.begin(request, self.task.n, self.batching.run.shape)

    def _drawn(self, progress: Progress, first: int = 0) -> Iterator[tuple[range, Tensor]]:
        on_step = counter(progress, self.task.steps, self.task.n)
        if first:
            on_step(first * self.task.steps)
        shrink = self.batching.requested == "auto"
        for rows, images in self.task.batches(self.batching.batch_size, on_step, shrink, first):
            yield rows, finite(images)

    def _classes(self) -> list[str] | None:
        """The name of the class of each image."""
        names, labels = self.drawn.class_names, self.task.labels
        if labels is None or not names or int(labels.max()) >= len(names):
            return None
        return [names[i] for i in labels.tolist()]

    def _seeds(self, rows: range) -> list[int] | None:
        """The seeds of `rows`; None for an interpolation between two seeds, which are in the facts of the task."""
        between = self.task.facts["task"]["name"] == "between_seeds"
        return None if between else [self.task.seeds[i] for i in rows]
