"""The base classes of the image classifiers, their activations by name, and their initialisation."""

import math
from collections.abc import Callable, Sequence
from typing import Literal, cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

Activation = Literal["relu", "leakyrelu", "elu", "gelu", "silu", "tanh"]

FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "leakyrelu": F.leaky_relu,
    "elu": F.elu,
    "gelu": F.gelu,
    "silu": F.silu,
    "tanh": torch.tanh,
}
TABULATED = {"relu": "relu", "leakyrelu": "leaky_relu", "tanh": "tanh"}
"""Activations whose gain torch.nn.init defines, and their names there."""


class Act(nn.Module):
    """The activation `name`. Raises ValueError for an unknown name."""

    def __init__(self, name: str):
        super().__init__()
        if name not in FUNCTIONS:
            raise ValueError(f"activation: must be one of {', '.join(FUNCTIONS)}, got {name!r}")
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        return FUNCTIONS[self.name](x)

    def extra_repr(self) -> str:
        return self.name


def gain(activation: str) -> float:
    """g = E[f(z)^2]^(-1/2), z ~ N(0, 1): weights of variance g^2 / fan keep second moments (He et al. 2015, eq. 10).

    It is torch's value if there is one (tanh: 5/3), otherwise the integral.
    """
    if activation in TABULATED:
        return float(nn.init.calculate_gain(TABULATED[activation]))  # type: ignore[arg-type]
    z = torch.linspace(-12, 12, 24_001, dtype=torch.float64)
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    return float(torch.trapezoid(FUNCTIONS[activation](z).square() * density, z)) ** -0.5


def initialize(module: nn.Module, activation: str, fan: Literal["in", "out"]) -> None:
    """Convolution weights ~ N(0, g^2 / fan) (He et al. 2015): fan `in` preserves activations, `out` gradients."""
    g = gain(activation)
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            inputs, outputs = nn.init._calculate_fan_in_and_fan_out(layer.weight)
            nn.init.normal_(layer.weight, 0.0, g / math.sqrt(inputs if fan == "in" else outputs))


def norm_act(channels: int, activation: str) -> list[nn.Module]:
    """Batch normalisation, then the activation."""
    return [nn.BatchNorm2d(channels), Act(activation)]


class Classifier(nn.Module):
    """x (B,C,H,W), c (B,) or None -> logits (B, num_classes). The base class of all classifiers.

    c is the time input of a denoiser, 0 for images without noise; None means 0.
    """

    timed = True
    """Whether it uses c, so that it can classify noisy images."""
    num_features: int

    def features(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """(B, num_features), the input of the last layer."""
        raise NotImplementedError


class ImageClassifier(Classifier):
    """x (B,C,H,W) in [-1, 1] -> logits (B, num_classes): normalisation, `trunk`, mean over positions, a linear layer.

    Subclasses set `trunk`, then call `finish`.

    Args:
        in_channels: C, 1 for grey and 3 for RGB.
        num_classes: at least 1; None or 0 = the dataset has no classes.
        mean: mean of each channel over the training images, in units of x; None = 0.
        std: standard deviation of each channel, in units of x; None = 1.

    Raises:
        ValueError: no classes, not one mean and std per channel, or a std that is not positive.
    """

    timed = False

    mean: Tensor
    std: Tensor

    def __init__(
        self, in_channels: int, num_classes: int | None, mean: Sequence[float] | None, std: Sequence[float] | None
    ):
        super().__init__()
        if num_classes is None or num_classes < 1:
            raise ValueError(
                "num_classes: this dataset has no classes, but a classifier needs them; use a dataset with classes"
            )
        mean, std = mean or [0.0] * in_channels, std or [1.0] * in_channels
        for name, values in (("mean", mean), ("std", std)):
            if len(values) != in_channels:
                raise ValueError(
                    f"{name}: must be one number for each of the {in_channels} channels, got {list(values)}"
                )
        if min(std) <= 0:
            raise ValueError(f"std: must be positive, got {list(std)}")
        self.num_classes = num_classes
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(-1, 1, 1))
        self.trunk: nn.Module

    def finish(self, num_features: int, activation: str, fan: Literal["in", "out"]) -> None:
        """Add the last layer and initialise all weights."""
        self.num_features = num_features
        self.out = nn.Linear(num_features, self.num_classes)
        initialize(self, activation, fan)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """c is ignored; it is there for the interface of `Classifier`."""
        return cast(Tensor, self.out(self.features(x, c)))

    def features(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """(B, num_features), the input of the last layer."""
        return cast(Tensor, self.trunk((x - self.mean) / self.std).mean((2, 3)))


def check_sizes(**sizes: int | Sequence[int]) -> None:
    """Raises ValueError, naming the first, unless all are positive."""
    for name, size in sizes.items():
        if min([size] if isinstance(size, int) else size, default=0) < 1:
            raise ValueError(f"{name}: must be at least 1, got {size if isinstance(size, int) else list(size)}")
