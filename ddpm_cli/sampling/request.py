"""A request for samples, as one value."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from ..build import check_fields, check_positive, check_seed
from ..diffusion.guidance import Guidance
from ..diffusion.samplers import Sampler
from ..errors import ConfigError
from ..text import NameText, PathText, named, printable
from .guidance import ClassifierGuidance
from .run_guidance import RunGuidance
from .run_sampler import RunSampler

TaskName = Literal["plain", "variation", "inpaint", "between_images", "between_seeds"]
Prior = Literal["auto", "normal", "gmm"]
Label = int | NameText
LISTED = 30
"""Classes that an error lists."""
MOST = 1_000_000
"""The most images of one request: all are kept in memory until the last one is drawn."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """n images from noise, or one task: variations of a picture, inpainting, interpolation of two pictures or seeds.

    Args:
        n: the number of images.
        seed: image i is drawn with seed + i.
        seeds: draw these images of an earlier request again: image i with seeds[i] and, without other labels, with the
            class that it had there, if that one began at `seed`. n is their number.
        label: the class of all images, by name or number, see `class_number`.
        labels: several classes, repeated over the images.
        init: a picture to draw n variations of.
        mask: with init, a picture whose white area is repainted.
        between: two pictures or two seeds to interpolate between.
        strength: in (0, 1], of variations and of interpolations of pictures; None = 0.6 and 0.4.
        resample, jump: settings of inpainting (RePaint); None = 10.
        prior: the prior of z of an autoencoder; auto = the mixture if one was fitted.
        sampler, guidance: by default the run's own, with all of their options.
        pixel_noise: whether to also sample the noise around the expected image of an autoencoder or mixture.

    Raises:
        ConfigError: a value out of range, or keys of different tasks.
    """

    n: int = 64
    seed: int = 0
    seeds: list[int] | None = None
    label: Label | None = None
    labels: list[Label] | None = None
    init: PathText | None = None
    mask: PathText | None = None
    between: list[int | PathText] | None = None
    strength: float | None = None
    resample: int | None = None
    jump: int | None = None
    prior: Prior = "auto"
    pixel_noise: bool = False
    sampler: Sampler | RunSampler = field(default_factory=RunSampler)
    guidance: Guidance | ClassifierGuidance | RunGuidance = field(default_factory=RunGuidance)

    def __post_init__(self) -> None:
        check_fields(self)
        check_seed(self.seed)
        if self.seeds is not None:
            self._check_seeds(self.seeds)
        check_positive(n=self.n)
        if self.n > MOST:
            raise ConfigError(f"n: at most {MOST:,} at a time, got {self.n:,}; call again with another seed")
        for name, path in (("init", self.init), ("mask", self.mask)):
            if path == "":
                raise ConfigError(f"{name}: is empty; name a picture, or leave it out")
        if self.between is not None:
            if self.init is not None or self.mask is not None:
                raise ConfigError("between: cannot be combined with init or mask; leave out one or the other")
            _check_ends(self.between)
        if self.mask is not None and self.init is None:
            raise ConfigError("mask: needs a picture to repaint; set init=PATH")
        if self.strength is not None:
            if self.task not in ("variation", "between_images"):
                raise ConfigError("strength: only for init=PATH without a mask, or between=[PATH,PATH]; leave it out")
            if not 0 < self.strength <= 1:
                raise ConfigError(f"strength: must be above 0 and at most 1, got {self.strength}")
        for name, value in (("resample", self.resample), ("jump", self.jump)):
            if value is not None and self.task != "inpaint":
                raise ConfigError(f"{name}: only for init=PATH mask=PATH; leave it out")
            if value is not None and value < 1:
                raise ConfigError(f"{name}: must be at least 1, got {value}")

    @property
    def task(self) -> TaskName:
        if self.between is not None:
            return "between_seeds" if isinstance(self.between[0], int) else "between_images"
        return "inpaint" if self.mask is not None else "variation" if self.init is not None else "plain"

    @property
    def image_seeds(self) -> list[int]:
        """One seed per image."""
        return self.seeds if self.seeds is not None else list(range(self.seed, self.seed + self.n))

    def _check_seeds(self, seeds: list[int]) -> None:
        """Sets n. Raises ConfigError for seeds out of range, and for tasks whose images do not each have their own."""
        if not seeds:
            raise ConfigError("seeds: is empty; name seeds, or leave it out")
        if self.task != "plain":
            raise ConfigError("seeds: cannot be combined with init, mask or between; set seed instead")
        for seed in seeds:
            check_seed(seed, "seeds")
        object.__setattr__(self, "n", len(seeds))

    @property
    def names_classes(self) -> bool:
        return self.label is not None or self.labels is not None

    def classes(self, names: Sequence[str]) -> Tensor:
        """(n,) int64: the requested classes, repeated; all of `names` in turn when no class is requested.

        Raises:
            ConfigError: an unknown class.
        """
        if self.label is not None and self.labels is not None:
            raise ConfigError("label: cannot be combined with labels; set only one of them")
        if self.labels == []:
            raise ConfigError("labels: is empty; name classes, or leave it out for all of them")
        requested = list(self.labels) if self.labels is not None else [self.label] if self.label is not None else []
        key = "label" if self.labels is None else "labels"
        numbers = [class_number(label, names, key) for label in requested]
        if self.seeds is not None and not numbers:
            return torch.tensor([(seed - self.seed) % len(names) for seed in self.seeds], dtype=torch.int64)
        return cycle(numbers or range(len(names)), self.n)

    def interpolation_weights(self) -> Tensor:
        """(n,) the position of each image between the two ends, from 0 to 1.

        Raises:
            ConfigError: fewer than two images.
        """
        if self.n < 2:
            raise ConfigError(f"n: an interpolation needs at least 2 images, got {self.n}")
        return torch.linspace(0, 1, self.n, dtype=torch.float64)


def cycle(classes: Sequence[int], n: int) -> Tensor:
    """(n,) int64: the classes, repeated."""
    return torch.tensor([classes[i % len(classes)] for i in range(n)], dtype=torch.int64)


def _check_ends(ends: list[int | str]) -> None:
    if len(ends) != 2 or isinstance(ends[0], int) != isinstance(ends[1], int):
        raise ConfigError(f"between: must be two pictures or two seeds, [PATH,PATH] or [3,17], got {ends}")
    if any(isinstance(end, int) and end < 0 for end in ends):
        raise ConfigError(f"between: seeds must be at least 0, got {ends}")


def class_number(label: Label, names: Sequence[str], key: str = "label") -> int:
    """The number of the class that `label` means: the class of that name, or, written as #2, the third class.

    A plain number also counts classes from 0, but only if no class has a number as its name.

    Raises:
        ConfigError: there is no such class.
    """
    text = str(label)
    if text in names:
        return names.index(text)
    number = re.fullmatch(r"(#?)(\d+)", text)
    numbered = any(name.isdecimal() for name in names)
    if number and (number[1] or not numbered) and int(number[2]) < len(names):
        return int(number[2])
    if text.startswith("["):
        raise ConfigError(
            f"label: is one class, got {printable(text)}; for a list of classes, set labels={printable(text)}"
        )
    wrong = text if text.isdecimal() else f"'{printable(text)}'"
    known = f"classes: {named(names, LISTED)}; #0 is the first one, #1 the second"
    raise ConfigError(f"{key}: there is no class {wrong}; {known}")
