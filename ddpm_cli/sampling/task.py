"""A task draws the images of a request, in any batches: the result does not depend on them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..diffusion.guidance import Unguided
from ..diffusion.samplers import Frame
from ..errors import ConfigError, NonFiniteError, out_of_memory
from .request import Request
from .run_guidance import RunGuidance


@dataclass(frozen=True)
class Task:
    """frames(rows) draws the images with these indices as one batch.

    Args:
        seeds: one per image; for an interpolation between two seeds, the offset added to both.
        labels: (n,) the class of each image, or None.
        steps: the number of frames before the last one.
        calls: network calls per batch.
        inputs: the input pictures, (K,C,H,W) in [-1, 1], by the name of their file.
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
        self, batch_size: int, on_step: Callable[[int], None], shrink: bool = False, first: int = 0
    ) -> Iterator[tuple[range, Tensor]]:
        """Draws batch by batch. Yields the indices of the images and the images (B,C,H,W).

        Args:
            on_step: called after each step with the number of images.
            first: the index of the image to begin with.
            shrink: if a batch does not fit into the device's memory, it and all later ones are halved and drawn again.
        """
        while first < self.n:
            rows = range(first, min(first + batch_size, self.n))
            drawn = self._batch(rows, on_step, shrink and len(rows) > 1)
            if drawn is None:
                batch_size = (len(rows) + 1) // 2
                continue
            yield rows, drawn
            first = rows.stop

    def _batch(self, rows: range, on_step: Callable[[int], None], shrink: bool) -> Tensor | None:
        """The images of a batch; None when it does not fit into memory and `shrink` is set."""
        frame, done = None, 0
        try:
            for frame in self.frames(rows):
                if frame.t > 0:
                    on_step(len(rows))
                    done += len(rows)
        except Exception as error:
            if not shrink or not out_of_memory(error):
                raise
            on_step(-done)
            return None
        assert frame is not None
        return frame.x


def in_one_pass(images: Callable[[Sequence[int]], Tensor]) -> Callable[[Sequence[int]], Iterator[Frame]]:
    """The two frames of a model that samples in one pass, at t = 1 and t = 0; both hold the result."""

    def frames(rows: Sequence[int]) -> Iterator[Frame]:
        with torch.no_grad():
            x = images(rows)
        yield Frame(1.0, x, x)
        yield Frame(0.0, x, x)

    return frames


def check_one_pass(request: Request) -> None:
    """Raises ConfigError for settings that only work with models that are sampled step by step."""
    if not isinstance(request.guidance, Unguided) and request.guidance != RunGuidance():
        raise ConfigError("guidance: only for diffusion models; use guidance=none")
    if request.names_classes:
        raise ConfigError("label: this model is not class-conditional; leave it out, or train a diffusion model")
    if request.init is not None:
        raise ConfigError("init: only for diffusion models; leave it out (autoencoders take between=[PATH,PATH])")
    if request.strength is not None:
        raise ConfigError("strength: only for diffusion models; leave it out")


def finite(images: Tensor) -> Tensor:
    """`images`, if all values are finite. Raises NonFiniteError otherwise."""
    bad = int((~images.isfinite()).flatten(1).any(1).sum())
    if bad:
        raise NonFiniteError(
            f"samples: {bad} of {len(images)} are not finite; use precision=fp32, or an earlier checkpoint"
        )
    return images
