"""What a user asked to be drawn, as one value."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from ..build import check_positive, check_seed
from ..diffusion.guidance import Guidance, Unguided
from ..diffusion.samplers import DDIM, Sampler
from ..errors import ConfigError
from .guidance import ClassifierGuidance

TaskName = Literal["plain", "variation", "inpaint", "between_images", "between_seeds"]
Prior = Literal["auto", "normal", "gmm"]
Label = int | str
MOST = 1_000_000
"""Images of one request: they are kept in memory until all are drawn."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """n images from noise; or of one task: variations of a picture, inpainting, a way between two pictures or seeds.

    Args:
        n: how many images.
        seed: image i is drawn with seed + i.
        label: the class of all images, by number or name.
        labels: several classes, repeated over the images.
        init: a picture, n variations of it.
        mask: with init, a picture whose white is painted.
        between: two pictures or two seeds.
        strength: in (0, 1], of variations and of a way between pictures; None = 0.6 and 0.4.
        resample, jump: of inpainting; None = 10.
        prior: that an autoencoder draws z from; auto = the mixture where one was fitted.
        pixel_noise: also draw the noise around an autoencoder's or mixture's expected image.

    Raises:
        ConfigError: a value out of range, or keys of different tasks.
    """

    n: int = 64
    seed: int = 0
    label: Label | None = None
    labels: list[Label] | None = None
    init: str | None = None
    mask: str | None = None
    between: list[int | str] | None = None
    strength: float | None = None
    resample: int | None = None
    jump: int | None = None
    prior: Prior = "auto"
    pixel_noise: bool = False
    sampler: Sampler = field(default_factory=DDIM)
    guidance: Guidance | ClassifierGuidance = field(default_factory=Unguided)

    def __post_init__(self) -> None:
        check_seed(self.seed)
        check_positive(n=self.n)
        if self.n > MOST:
            raise ConfigError(f"n: at most {MOST:,} at a time, got {self.n:,}; call again with another seed")
        if self.between is not None:
            if self.init is not None or self.mask is not None:
                raise ConfigError("between: is a task of its own; leave out init and mask, or between")
            _check_ends(self.between)
        if self.mask is not None and self.init is None:
            raise ConfigError("mask: needs a picture to paint in; set init=PATH")
        if self.strength is not None:
            if self.task not in ("variation", "between_images"):
                raise ConfigError("strength: belongs to init=PATH without a mask or between=[PATH,PATH]; leave it out")
            if not 0 < self.strength <= 1:
                raise ConfigError(f"strength: must be above 0 and at most 1, got {self.strength}")
        for name, value in (("resample", self.resample), ("jump", self.jump)):
            if value is not None and self.task != "inpaint":
                raise ConfigError(f"{name}: belongs to init=PATH mask=PATH; leave it out")
            if value is not None and value < 1:
                raise ConfigError(f"{name}: must be at least 1, got {value}")

    @property
    def task(self) -> TaskName:
        if self.between is not None:
            return "between_seeds" if isinstance(self.between[0], int) else "between_images"
        return "inpaint" if self.mask is not None else "variation" if self.init is not None else "plain"

    @property
    def seeds(self) -> list[int]:
        """One for each image."""
        return list(range(self.seed, self.seed + self.n))

    @property
    def names_classes(self) -> bool:
        return self.label is not None or self.labels is not None

    def classes(self, names: Sequence[str]) -> Tensor:
        """(n,) int64: the asked classes repeated; all of `names` in turn when none is asked.

        Raises:
            ConfigError: a class that is not there.
        """
        if self.label is not None and self.labels is not None:
            raise ConfigError("label: is given together with labels; give one of them")
        asked = list(self.labels) if self.labels is not None else [self.label] if self.label is not None else []
        return cycle([_class(a, names) for a in asked] or range(len(names)), self.n)

    def interpolation_weights(self) -> Tensor:
        """(n,) how far each image is along the one way between two ends, 0 to 1.

        Raises:
            ConfigError: fewer than two images.
        """
        if self.n < 2:
            raise ConfigError(f"n: the way between two images needs at least 2, got {self.n}")
        return torch.linspace(0, 1, self.n, dtype=torch.float64)


def cycle(classes: Sequence[int], n: int) -> Tensor:
    """(n,) int64: the classes over and over."""
    return torch.tensor([classes[i % len(classes)] for i in range(n)], dtype=torch.int64)


def _check_ends(ends: list[int | str]) -> None:
    if len(ends) != 2 or isinstance(ends[0], int) != isinstance(ends[1], int):
        raise ConfigError(f"between: must be two pictures or two seeds, [PATH,PATH] or [3,17], got {ends}")
    if any(isinstance(end, int) and end < 0 for end in ends):
        raise ConfigError(f"between: seeds must be at least 0, got {ends}")


def _class(asked: Label, names: Sequence[str]) -> int:
    if isinstance(asked, int) and 0 <= asked < len(names):
        return asked
    if str(asked) in names:
        return names.index(str(asked))
    raise ConfigError(f"label: there is no class {asked!r}; classes: {', '.join(names)}")
