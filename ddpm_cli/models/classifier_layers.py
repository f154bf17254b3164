"""What the image classifiers share: activations by name, their initialisation, and the way from images to logits."""

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
"""Those whose gain torch.nn.init knows."""


class Act(nn.Module):
    """The activation called `name`. Raises ValueError for one that is not there."""

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

    torch's own number where it has one (tanh: 5/3), else the integral.
    """
    if activation in TABULATED:
        return float(nn.init.calculate_gain(TABULATED[activation]))  # type: ignore[arg-type]
    z = torch.linspace(-12, 12, 24_001, dtype=torch.float64)
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    return float(torch.trapezoid(FUNCTIONS[activation](z).square() * density, z)) ** -0.5


def initialize(module: nn.Module, activation: str, fan: Literal["in", "out"]) -> None:
    """Every convolution's weight ~ N(0, g^2 / fan) (He et al. 2015): fan `in` keeps activations, `out` gradients."""
    g = gain(activation)
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            inputs, outputs = nn.init._calculate_fan_in_and_fan_out(layer.weight)
            nn.init.normal_(layer.weight, 0.0, g / math.sqrt(inputs if fan == "in" else outputs))


def norm_act(channels: int, activation: str) -> list[nn.Module]:
    """Batch normalisation, then the activation."""
    return [nn.BatchNorm2d(channels), Act(activation)]


class Classifier(nn.Module):
    """x (B,C,H,W), c (B,) or None -> logits (B, num_classes). What is trained as a classifier derives from this.

    c is what a denoiser is told about t, 0 for images without noise; None is 0.
    """

    timed = True
    """Whether it looks at c, so that it can classify noisy images."""
    num_features: int

    def features(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """(B, num_features), what the last layer sees."""
        raise NotImplementedError


class ImageClassifier(Classifier):
    """x (B,C,H,W) in [-1, 1] -> logits (B, num_classes): statistics, `trunk`, mean over positions, a linear layer.

    Subclasses set `trunk`, then call `finish`.

    Args:
        in_channels: C, 1 for grey and 3 for RGB.
        num_classes: at least 1; None or 0 = the dataset has none.
        mean: of each channel over the training images, in units of x; None = 0.
        std: of each channel, in units of x; None = 1.

    Raises:
        ValueError: no classes, statistics that are not one positive number (mean: one number) per channel.
    """

    timed = False

    mean: Tensor
    std: Tensor

    def __init__(
        self, in_channels: int, num_classes: int | None, mean: Sequence[float] | None, std: Sequence[float] | None
    ):
        super().__init__()
        if num_classes is None or num_classes < 1:
            raise ValueError("num_classes: this dataset has no classes; a classifier needs some")
        mean, std = mean or [0.0] * in_channels, std or [1.0] * in_channels
        for name, values in (("mean", mean), ("std", std)):
            if len(values) != in_channels:
                raise ValueError(f"{name}: must be one number for each of {in_channels} channels, got {list(values)}")
        if min(std) <= 0:
            raise ValueError(f"std: must be positive, got {list(std)}")
        self.num_classes = num_classes
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(-1, 1, 1))
        self.trunk: nn.Module

    def finish(self, num_features: int, activation: str, fan: Literal["in", "out"]) -> None:
        """The last layer, and the first weights of all."""
        self.num_features = num_features
        self.out = nn.Linear(num_features, self.num_classes)
        initialize(self, activation, fan)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """c is what networks that are told the time take: not used."""
        return cast(Tensor, self.out(self.features(x, c)))

    def features(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """(B, num_features), what the last layer sees."""
        return cast(Tensor, self.trunk((x - self.mean) / self.std).mean((2, 3)))


def check_sizes(**sizes: int | Sequence[int]) -> None:
    """Raises ValueError, naming the first, unless all are positive."""
    for name, size in sizes.items():
        if min([size] if isinstance(size, int) else size, default=0) < 1:
            raise ValueError(f"{name}: must be at least 1, got {size if isinstance(size, int) else list(size)}")
