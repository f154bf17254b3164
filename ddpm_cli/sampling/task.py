"""A request made into what draws it: the frames of any of its images, so that batches do not matter."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..diffusion.guidance import Unguided
from ..diffusion.samplers import Frame
from ..errors import ConfigError, NonFiniteError
from .request import Request


@dataclass(frozen=True)
class Task:
    """frames(rows) draws the images with these numbers as one batch.

    Args:
        seeds: one for each image; between two seeds, what is added to both.
        labels: (n,) the class of each image, or None.
        steps: frames before the last one.
        calls: of the network for one batch.
        inputs: what was given, (K,C,H,W) in [-1, 1] by the name of its file.
        facts: "task", "sampler" and "guidance" of sample.json.
    """

    frames: Callable[[Sequence[int]], Iterator[Frame]]
    seeds: Sequence[int]
    labels: Tensor | None
    steps: int
    calls: int
    inputs: dict[str, Tensor] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def n(self) -> int:
        return len(self.seeds)

    def batches(
        self, batch_size: int, on_step: Callable[[int], None], shrink: bool = False
    ) -> Iterator[tuple[range, Tensor]]:
        """The images of each batch in turn: which they are, and (B,C,H,W).

        Args:
            on_step: called with how many images went a step.
            shrink: a batch that the device has no memory for is drawn again in halves, and so are those after it.
        """
        first = 0
        while first < self.n:
            rows = range(first, min(first + batch_size, self.n))
            drawn = self._batch(rows, on_step, shrink and len(rows) > 1)
            if drawn is None:
                batch_size = (len(rows) + 1) // 2
                continue
            yield rows, drawn
            first = rows.stop

    def _batch(self, rows: range, on_step: Callable[[int], None], shrink: bool) -> Tensor | None:
        """None when it does not fit into memory, and `shrink` says that something can be done about it."""
        frame, done = None, 0
        try:
            for frame in self.frames(rows):
                if frame.t > 0:
                    on_step(len(rows))
                    done += len(rows)
        except torch.OutOfMemoryError:
            if not shrink:
                raise
            on_step(-done)
            return None
        assert frame is not None
        return frame.x


def in_one_pass(images: Callable[[Sequence[int]], Tensor]) -> Callable[[Sequence[int]], Iterator[Frame]]:
    """The frames of a model that draws without a sampler: one before, one after."""

    def frames(rows: Sequence[int]) -> Iterator[Frame]:
        with torch.no_grad():
            x = images(rows)
        yield Frame(1.0, x, x)
        yield Frame(0.0, x, x)

    return frames


def check_one_pass(request: Request) -> None:
    """Raises ConfigError for what only models that are sampled step by step can do."""
    if not isinstance(request.guidance, Unguided):
        raise ConfigError("guidance: is for diffusion models; use guidance=none")
    if request.names_classes:
        raise ConfigError("label: this model knows no classes; leave it out, or train a diffusion model")
    if request.init is not None:
        raise ConfigError("init: is for diffusion models; between=[PATH,PATH] takes pictures here")
    if request.strength is not None:
        raise ConfigError("strength: is for diffusion models; leave it out")


def finite(images: Tensor) -> Tensor:
    """Raises NonFiniteError for NaN or infinity."""
    bad = int((~images.isfinite()).flatten(1).any(1).sum())
    if bad:
        raise NonFiniteError(
            f"samples: {bad} of {len(images)} are not finite; use precision=fp32, or an earlier checkpoint"
        )
    return images
