"""The densely connected network of Huang et al. 2017 for 32x32."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .classifier_layers import Activation, ImageClassifier, check_sizes, norm_act


class DenseLayer(nn.Module):
    """norm-act-1x1 convolution-norm-act-3x3 convolution to `growth` channels, concatenated with the input."""

    def __init__(self, inputs: int, bottleneck: int, growth: int, activation: str):
        super().__init__()
        self.branch = nn.Sequential(
            *norm_act(inputs, activation),
            nn.Conv2d(inputs, bottleneck, 1, bias=False),
            *norm_act(bottleneck, activation),
            nn.Conv2d(bottleneck, growth, 3, padding=1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.branch(x), x], 1)


class DenseNet(ImageClassifier):
    """A 3x3 convolution and dense blocks; width and size are halved between blocks. 239,146 parameters.

    Args:
        in_channels, num_classes, mean, std: see `ImageClassifier`.
        channels: width before the first block.
        blocks: number of layers of each dense block.
        growth: channels that each layer adds.
        bottleneck: width inside a layer as a multiple of `growth`.
        activation: see `classifier_layers.FUNCTIONS`; the initial weights are scaled for it (Kaiming, fan-in).

    Raises:
        ValueError: a value is out of range; the message starts with its name.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int | None = 10,
        channels: int = 32,
        blocks: Sequence[int] = (6, 6, 6, 6),
        growth: int = 16,
        bottleneck: int = 2,
        activation: Activation = "relu",
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ):
        super().__init__(in_channels, num_classes, mean, std)
        check_sizes(channels=channels, blocks=blocks, growth=growth, bottleneck=bottleneck)
        current, layers = channels, list[nn.Module]([nn.Conv2d(in_channels, channels, 3, padding=1)])
        for i, length in enumerate(blocks):
            for _ in range(length):
                layers.append(DenseLayer(current, bottleneck * growth, growth, activation))
                current += growth
            layers += norm_act(current, activation)
            if i < len(blocks) - 1:
                layers.append(nn.Conv2d(current, current // 2, 1, bias=False))
                layers.append(
                    nn.AvgPool2d(2, ceil_mode=True)
                )  # ceil_mode keeps the border of odd sizes and a single pixel
                current //= 2
        self.trunk = nn.Sequential(*layers)
        self.finish(current, activation, "in")
