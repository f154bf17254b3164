"""GoogLeNet (Szegedy et al. 2015), small enough for 32x32."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .classifier_layers import Activation, ImageClassifier, check_sizes, norm_act

POOL = None
WIDTHS: list[tuple[int, ...] | None] = [
    (32, 16, 16, 32, 8, 8),
    (32, 16, 24, 48, 12, 12),
    POOL,
    (32, 16, 24, 48, 12, 12),
    (32, 16, 16, 48, 16, 16),
    (32, 16, 16, 48, 16, 16),
    (32, 16, 32, 48, 24, 24),
    POOL,
    (48, 16, 32, 64, 16, 16),
    (48, 16, 32, 64, 16, 16),
]
"""Widths of each block if 64 channels precede the first: reduced for 3x3 and 5x5; outputs of 1x1, 3x3, 5x5, pooling."""


class Inception(nn.Module):
    """Four concatenated branches: 1x1; 1x1 then 3x3; 1x1 then 5x5; 3x3 max pooling then 1x1.

    Each convolution (with bias) is followed by batch normalisation and the activation.

    Args:
        widths: reduced for 3x3 and 5x5; outputs of 1x1, 3x3, 5x5 and pooling.
    """

    def __init__(self, in_channels: int, widths: Sequence[int], activation: str):
        super().__init__()

        def conv(inputs: int, outputs: int, size: int) -> list[nn.Module]:
            return [nn.Conv2d(inputs, outputs, size, padding=size // 2), *norm_act(outputs, activation)]

        reduced3, reduced5, out1, out3, out5, pooled = widths
        self.one = nn.Sequential(*conv(in_channels, out1, 1))
        self.three = nn.Sequential(*conv(in_channels, reduced3, 1), *conv(reduced3, out3, 3))
        self.five = nn.Sequential(*conv(in_channels, reduced5, 1), *conv(reduced5, out5, 5))
        self.pool = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), *conv(in_channels, pooled, 1))
        self.channels = out1 + out3 + out5 + pooled

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(x), self.three(x), self.five(x), self.pool(x)], 1)


class GoogleNet(ImageClassifier):
    """A 3x3 convolution and eight inception blocks at full, half and quarter size: 260,650 parameters.

    Args:
        in_channels, num_classes, mean, std: see `ImageClassifier`.
        channels: width before the first block; all other widths are proportional to it.
        activation: see `classifier_layers.FUNCTIONS`; the initial weights are scaled for it (Kaiming, fan-in).

    Raises:
        ValueError: a value is out of range; the message starts with its name.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int | None = 10,
        channels: int = 64,
        activation: Activation = "relu",
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ):
        super().__init__(in_channels, num_classes, mean, std)
        check_sizes(channels=channels)
        layers: list[nn.Module] = [nn.Conv2d(in_channels, channels, 3, padding=1), *norm_act(channels, activation)]
        current = channels
        for widths in WIDTHS:
            if widths is POOL:
                layers.append(nn.MaxPool2d(3, stride=2, padding=1))
                continue
            block = Inception(current, [max(1, round(w * channels / 64)) for w in widths], activation)
            layers.append(block)
            current = block.channels
        self.trunk = nn.Sequential(*layers)
        self.finish(current, activation, "in")
