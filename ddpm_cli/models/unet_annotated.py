"""The U-Net of the annotated DDPM (labml.ai), with its two deviations from Ho et al. 2020 as options."""

import math
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from .kernels import Dropout, GroupNorm, attention
from .layers import SinusoidalEmbedding
from .unet import NO_CLASSES, check_shape


class UNetAnnotated(nn.Module):
    """x (B,C,H,W), c (B,), y (B,) or None -> (B,C,H,W); 2C with `learned_variance`.

    Each level has `blocks` residual blocks in the encoder and one more in the decoder. With compound_multipliers=true
    attention_norm=false it is the tutorial's network: 167,777,987 parameters for 3 channels, 167,775,681 for 1. Layers
    keep PyTorch's initialisation; no layer starts at zero.

    Args:
        in_channels: C, 1 for grey and 3 for RGB.
        image_size: H and W (one number if square); 2^(levels - 1) must divide both.
        channels: width of the first convolution.
        multipliers: one per level.
        attention: one flag per level; the middle always has attention.
        blocks: residual blocks per level.
        heads: number of attention heads, each as wide as the level.
        dropout: dropout before the second convolution of each block, in [0, 1).
        compound_multipliers: each level multiplies the width of the previous one (64 with 1, 2, 2, 4 gives 64, 128,
            256, 1024), as in the tutorial; false multiplies `channels` (64, 128, 128, 256), as in Ho et al.
        attention_norm: apply the group norm of the attention blocks, which the tutorial creates but does not use.
        class_conditional: add a learned class embedding to that of the time; None = if there are classes.
        num_classes: number of classes; None or 0 = none.
        learned_variance: output twice the channels: the target, and the variance as a position between its bounds.

    Raises:
        ValueError: a size cannot be halved, a list has the wrong length, or an option is out of range.
    """

    def __init__(
        self,
        in_channels: int = 3,
        image_size: int | tuple[int, int] = 32,
        channels: int = 64,
        multipliers: Sequence[int] = (1, 2, 2, 4),
        attention: Sequence[bool] = (False, False, False, True),
        blocks: int = 2,
        heads: int = 1,
        dropout: float = 0.1,
        compound_multipliers: bool = False,
        attention_norm: bool = True,
        class_conditional: bool | None = False,
        num_classes: int | None = None,
        learned_variance: bool = False,
    ):
        super().__init__()
        self.learned_variance = learned_variance
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        check_shape(height, width, channels, multipliers, blocks, heads, dropout, 1)
        if len(attention) != len(multipliers):
            raise ValueError(f"attention: must be one flag for each of the {len(multipliers)} levels, got {attention}")
        if class_conditional and not num_classes:
            raise ValueError(f"class_conditional: {NO_CLASSES}")
        self.class_conditional = bool(num_classes) if class_conditional is None else class_conditional
        time = 4 * channels
        self.time = nn.Sequential(
            SinusoidalEmbedding(channels), nn.Linear(channels, time), nn.SiLU(), nn.Linear(time, time)
        )
        self.label = nn.Embedding(num_classes, time) if self.class_conditional and num_classes else None

        def stage(inputs: int, outputs: int, attend: bool) -> nn.ModuleList:
            block = ResidualBlock(inputs, outputs, time, dropout)
            return nn.ModuleList([block, Attention(outputs, heads, attention_norm)] if attend else [block])

        widths = widths_of(channels, multipliers, compound_multipliers)
        before = [channels, *widths[:-1]]
        last = len(widths) - 1
        self.conv_in = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for i, (inputs, outputs) in enumerate(zip(before, widths, strict=True)):
            for block in range(blocks):
                self.down.append(stage(outputs if block else inputs, outputs, attention[i]))
            if i < last:
                self.down.append(nn.ModuleList([nn.Conv2d(outputs, outputs, 3, stride=2, padding=1)]))
        self.middle = nn.ModuleList([*stage(widths[-1], widths[-1], True), *stage(widths[-1], widths[-1], False)])
        for i in range(last, -1, -1):
            for _ in range(blocks):
                self.up.append(stage(2 * widths[i], widths[i], attention[i]))
            self.up.append(stage(widths[i] + before[i], before[i], attention[i]))
            if i > 0:
                self.up.append(nn.ModuleList([nn.ConvTranspose2d(before[i], before[i], 4, stride=2, padding=1)]))
        self.norm_out = group_norm(8, channels)
        self.conv_out = nn.Conv2d(channels, in_channels * (1 + learned_variance), 3, padding=1)

    def forward(self, x: Tensor, c: Tensor, y: Tensor | None = None) -> Tensor:
        """A label of -1 or y = None means no label."""
        time = self.time(c)
        if self.label is not None and y is not None:
            time = time + self.label(y.clamp(min=0)) * (y >= 0)[:, None]
        time = F.silu(time)
        x = self.conv_in(x)
        skips = [x]
        for stage in self.down:
            x = _run(stage, x, time)
            skips.append(x)
        x = _run(self.middle, x, time)
        for stage in self.up:
            wider = isinstance(cast(nn.ModuleList, stage)[0], nn.ConvTranspose2d)
            x = _run(stage, x if wider else torch.cat([x, skips.pop()], dim=1), time)
        out: Tensor = self.conv_out(F.silu(self.norm_out(x)))
        return out


class ResidualBlock(nn.Module):
    """norm, SiLU, conv, + Linear(SiLU(time)), norm, SiLU, dropout, conv, + shortcut."""

    def __init__(self, in_channels: int, channels: int, time: int, dropout: float):
        super().__init__()
        self.norm1 = group_norm(32, in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.time = nn.Linear(time, channels)
        self.norm2 = group_norm(32, channels)
        self.dropout = Dropout(dropout)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.shortcut = nn.Identity() if in_channels == channels else nn.Conv2d(in_channels, channels, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """x (B,C,H,W), time (B,T) after SiLU."""
        h = self.conv1(F.silu(self.norm1(x))) + self.time(time)[:, :, None, None]
        out: Tensor = self.conv2(self.dropout(F.silu(self.norm2(h)))) + self.shortcut(x)
        return out


class Attention(nn.Module):
    """x + W softmax(q k^T / sqrt(d)) v over the H*W positions, with heads of width d = channels.

    Without `normed` the norm exists but is not applied, as in the tutorial, whose number of parameters includes it.
    """

    def __init__(self, channels: int, heads: int, normed: bool):
        super().__init__()
        self.heads, self.normed = heads, normed
        self.norm = group_norm(32, channels)
        self.qkv = nn.Linear(channels, 3 * heads * channels)  # q, k and v of each head in turn
        self.project = nn.Linear(heads * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        tokens = (self.norm(x) if self.normed else x).permute(0, 2, 3, 1).reshape(b, h * w, c)
        q, k, v = self.qkv(tokens).view(b, h * w, self.heads, 3, c).permute(3, 0, 2, 1, 4)
        out = attention(q, k, v).transpose(1, 2).reshape(b, h * w, self.heads * c)
        return x + self.project(out).view(b, h, w, c).permute(0, 3, 1, 2)


def widths_of(channels: int, multipliers: Sequence[int], compound: bool) -> list[int]:
    """The width of each level."""
    return [channels * (math.prod(multipliers[: i + 1]) if compound else m) for i, m in enumerate(multipliers)]


def group_norm(groups: int, channels: int) -> GroupNorm:
    """GroupNorm with `groups` groups, or fewer if that does not divide `channels` (never for the tutorial's widths)."""
    return GroupNorm(math.gcd(groups, channels), channels)


def _run(stage: nn.Module, x: Tensor, time: Tensor) -> Tensor:
    for layer in cast(nn.ModuleList, stage):
        x = layer(x, time) if isinstance(layer, ResidualBlock) else layer(x)
    return x
