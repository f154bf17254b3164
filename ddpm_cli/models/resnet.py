"""The residual network of He et al. 2016a (section 4.2) for 32x32."""

from collections.abc import Sequence

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from .classifier_layers import Act, Activation, ImageClassifier, check_sizes, norm_act


def conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """A 3x3 convolution without bias, because a norm follows."""
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)


NARROW = 8
"""Channels that a vector of AVX2 holds."""


def projection(inputs: int, outputs: int, stride: int, bias: bool = True) -> nn.Conv2d:
    """The 1x1 convolution of a shortcut."""
    kind = SkippingConv2d if stride > 1 and inputs < NARROW else nn.Conv2d
    return kind(inputs, outputs, 1, stride, bias=bias)


class SkippingConv2d(nn.Conv2d):
    """A strided 1x1 convolution that drops the pixels between strides first.

    oneDNN (torch 2.14) corrupts memory in the backward pass of a strided one from four channels, on a CPU with AVX2
    and nothing newer.
    """

    def forward(self, x: Tensor) -> Tensor:
        down, right = (int(s) for s in self.stride)
        return F.conv2d(x[:, :, ::down, ::right], self.weight, self.bias)


class Block(nn.Module):
    """act(shortcut(x) + conv-norm-act-conv-norm(x)); the shortcut of a strided block is a strided 1x1 convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int, activation: str):
        super().__init__()
        first, second = conv3x3(inputs, outputs, stride), conv3x3(outputs, outputs)
        self.branch = nn.Sequential(first, *norm_act(outputs, activation), second, nn.BatchNorm2d(outputs))
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else projection(inputs, outputs, stride)
        self.act = Act(activation)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.shortcut(x) + self.branch(x))


class ResNet(ImageClassifier):
    """A 3x3 convolution and groups of blocks; each group halves the size. 272,378 parameters.

    Args:
        in_channels, num_classes, mean, std: see `ImageClassifier`.
        channels: width of the first group.
        multipliers: width of every group as a multiple of `channels`.
        blocks: blocks per group.
        activation: see `classifier_layers.FUNCTIONS`; the initial weights are scaled for it (Kaiming, fan-out).

    Raises:
        ValueError: a value is out of range; the message starts with its name.
    """

    block: type[nn.Module] = Block

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int | None = 10,
        channels: int = 16,
        multipliers: Sequence[int] = (1, 2, 4),
        blocks: int = 3,
        activation: Activation = "relu",
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ):
        super().__init__(in_channels, num_classes, mean, std)
        check_sizes(channels=channels, multipliers=multipliers, blocks=blocks)
        current = channels * multipliers[0]
        layers = self.stem(in_channels, current, activation)
        for i, multiplier in enumerate(multipliers):
            for j in range(blocks):
                stride = 2 if i > 0 and j == 0 else 1
                layers.append(self.block(current, channels * multiplier, stride, activation))
                current = channels * multiplier
        self.trunk = nn.Sequential(*layers)
        self.finish(current, activation, "out")

    def stem(self, inputs: int, outputs: int, activation: str) -> list[nn.Module]:
        """The layers before the first block."""
        return [conv3x3(inputs, outputs), *norm_act(outputs, activation)]
