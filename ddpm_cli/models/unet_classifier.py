"""The encoder of the U-Net as a classifier."""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from .classifier_layers import Classifier
from .layers import Attention, Downsample, ResidualBlock, SinusoidalEmbedding, normalize
from .unet import Side, check_shape, initialize, level_sides


class UNetClassifier(Classifier):
    """x (B,C,H,W), c (B,) -> logits (B, num_classes): residual blocks, mean over positions, a linear layer.

    As in Dhariwal & Nichol 2021, section 4.1, whose classifiers are the downsampling half of their U-Net. c is the time
    input of a denoiser; a classifier of clean images always gets 0.

    Args:
        in_channels: C, 1 for grey and 3 for RGB.
        image_size: H and W (one number if square); 2^(levels - 1) must divide both.
        channels: width of the first level.
        multipliers: width of every level as a multiple of `channels`.
        blocks: residual blocks per level.
        attention_resolutions, attention_side: see `UNet`.
        heads: number of attention heads.
        dropout: dropout in each block, in [0, 1).
        num_classes: number of classes, at least 1.

    Raises:
        ValueError: a size cannot be halved, there are no classes, or an option is out of range.
    """

    def __init__(
        self,
        in_channels: int = 3,
        image_size: int | tuple[int, int] = 32,
        channels: int = 64,
        multipliers: Sequence[int] = (1, 2, 2),
        blocks: int = 1,
        attention_resolutions: Sequence[int] = (16,),
        heads: int = 1,
        dropout: float = 0.1,
        num_classes: int | None = 10,
        attention_side: Side = "height",
    ):
        super().__init__()
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        check_shape(height, width, channels, multipliers, blocks, heads, dropout, 1)
        if num_classes is None or num_classes < 1:
            raise ValueError(
                "num_classes: this dataset has no classes, but a classifier needs them; use a dataset with classes"
            )
        self.levels = level_sides(height, width, len(multipliers), attention_side)
        self.unused_attention = [side for side in attention_resolutions if side not in self.levels]
        embedding = 4 * channels
        self.time = nn.Sequential(
            SinusoidalEmbedding(channels), nn.Linear(channels, embedding), nn.SiLU(), nn.Linear(embedding, embedding)
        )
        self.conv_in = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.layers, current = nn.ModuleList(), channels
        for i, multiplier in enumerate(multipliers):
            for _ in range(blocks):
                self.layers.append(ResidualBlock(current, channels * multiplier, embedding, dropout, True))
                current = channels * multiplier
                if self.levels[i] in attention_resolutions:
                    self.layers.append(Attention(current, heads))
            if i < len(multipliers) - 1:
                self.layers.append(Downsample(current))
        self.norm_out = normalize(current)
        self.num_features = current
        self.out = nn.Linear(current, num_classes)
        initialize(self)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        return cast(Tensor, self.out(self.features(x, c)))

    def features(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """(B, num_features), the input of the last layer. Without c, the images are taken to be clean (c = 0)."""
        embedding = F.silu(self.time(torch.zeros(len(x), device=x.device) if c is None else c))
        x = self.conv_in(x)
        for layer in self.layers:
            x = layer(x, embedding) if isinstance(layer, ResidualBlock) else layer(x)
        return F.silu(self.norm_out(x)).mean((2, 3))
