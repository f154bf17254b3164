"""Which seed, class and place on the way each image has."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..diffusion.denoiser import Denoise
from ..diffusion.generate import denoise_of
from ..diffusion.guidance import Guidance
from ..diffusion.noise import ImageNoise
from ..diffusion.samplers import Sampler
from ..errors import ConfigError
from ..runs.load import Loaded
from .guidance import Guided
from .inputs import Request

Asked = tuple[int | str | None, list[int | str] | None]
"""label and labels, as the user wrote them."""


@dataclass(frozen=True)
class Draw:
    """How each image is drawn. seeds: one for each of the n images; labels (n,) int64, or None; weights (n,) in [0, 1].

    With `between` two seeds, seeds[i] is added to both of them.
    """

    loaded: Loaded
    sampler: Sampler
    guidance: Guidance
    seeds: Sequence[int]
    labels: Tensor | None
    weights: Tensor | None = None

    @property
    def known_labels(self) -> Tensor | None:
        """None where the images are drawn without a class."""
        return None if self.labels is None or bool((self.labels < 0).any()) else self.labels

    def denoise(self, rows: Sequence[int]) -> Denoise:
        return denoise_of(self.loaded.model, self.some_labels(rows), self.guidance)

    def some_labels(self, rows: Sequence[int]) -> Tensor | None:
        return None if self.labels is None else self.labels[list(rows)].to(self.loaded.runtime.device)

    def some_seeds(self, rows: Sequence[int]) -> list[int]:
        return [self.seeds[i] for i in rows]

    def some_weights(self, rows: Sequence[int]) -> Tensor:
        assert self.weights is not None
        return self.weights[list(rows)].to(self.loaded.runtime.device, torch.float32)

    def noise(self, rows: Sequence[int]) -> tuple[Tensor, ImageNoise]:
        """The first noise of each image, and where the rest comes from."""
        noise = ImageNoise(self.some_seeds(rows))
        return noise.first(self.loaded.shape, self.loaded.runtime.device), noise


def draw_of(request: Request, loaded: Loaded, sampler: Sampler, guide: Guided, n: int, seed: int, asked: Asked) -> Draw:
    """n images with seeds of their own; of a task between two ends, n images along one way.

    Raises:
        ConfigError: a class that is not there, fewer than two images along a way.
    """
    if request.between is None:
        classes = classes_of(loaded, request, n, asked, guide, along=False)
        return Draw(loaded, sampler, guide.guidance, range(seed, seed + n), classes)
    if n < 2:
        raise ConfigError(f"n: the way between two images needs at least 2, got {n}")
    classes = classes_of(loaded, request, n, asked, guide, along=True)
    weights = torch.linspace(0, 1, n, dtype=torch.float64)
    return Draw(loaded, sampler, guide.guidance, [_offset(request, seed)] * n, classes, weights)


def ways_of(
    request: Request,
    loaded: Loaded,
    sampler: Sampler,
    guide: Guided,
    n: int,
    seed: int,
    asked: Asked,
    weights: Tensor,
) -> Draw:
    """n ways side by side, each with a seed and a class of its own: n images for each of `weights` in turn."""
    classes = classes_of(loaded, request, n, asked, guide, along=False)
    first, count = _offset(request, seed), len(weights)
    seeds = list(range(first, first + n)) * count
    labels = None if classes is None else classes.repeat(count)
    return Draw(loaded, sampler, guide.guidance, seeds, labels, weights.repeat_interleave(n))


def _offset(request: Request, seed: int) -> int:
    """The first seed; between two seeds it is what is added to both, nothing. Raises ConfigError for another one."""
    if request.kind != "between_seeds":
        return seed
    if seed:
        raise ConfigError(f"seed: belongs to images from noise; between two seeds leave it out, got {seed}")
    return 0


def classes_of(
    loaded: Loaded,
    request: Request,
    n: int,
    asked: Asked,
    guide: Guided,
    along: bool,
) -> Tensor | None:
    """The label of each image, (n,), see `Loaded.labels`.

    A picture's own class is not known: without a label, its variations are drawn without one where the model has
    learned to. Images `along` one way must be of one class.

    Raises:
        ConfigError: a class that is not there, none or several where one is needed.
    """
    label, labels = asked
    free = loaded.conditional and loaded.label_dropout > 0 and guide.plain
    if label is None and labels is None:
        if request.kind in ("variation", "inpaint", "between_images") and free:
            return torch.full((n,), -1)
        if along and (loaded.conditional or guide.class_names is not None):
            raise ConfigError("label: the way between two images needs a class; set label=CLASS")
    if along and len(labels or []) > 1:
        raise ConfigError("labels: the way between two images has one class; set label=CLASS")
    return loaded.labels(n, label, labels, guide.class_names)
