"""Building blocks of the U-Nets. B batch, C channels, H height, W width, E width of the time embedding."""

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .kernels import DoublingConv2d, Dropout, GroupNorm, attention


def normalize(channels: int, groups: int = 32) -> GroupNorm:
    """GroupNorm with at most `groups` groups of at least four channels each.

    In a group of one channel, the norm would subtract the time embedding that was added to the channel.
    """
    return GroupNorm(math.gcd(channels, max(min(groups, channels // 4), 1)), channels, eps=1e-6)


def zeroed(module: nn.Module) -> nn.Module:
    """`module` with all parameters zero. As the last layer of a residual branch, it makes the block an identity."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


class SinusoidalEmbedding(nn.Module):
    """c (B,) -> (B,E): sin(c w_k), cos(c w_k), w_k = 10000^(-k / (E/2 - 1)) (Vaswani et al. 2017)."""

    frequencies: Tensor

    def __init__(self, width: int):
        super().__init__()
        half = width // 2
        if width % 2 or half < 2:
            raise ValueError(f"channels: must be even and at least 4, got {width}")
        frequencies = torch.exp(torch.arange(half) * (-math.log(10_000) / (half - 1)))
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, c: Tensor) -> Tensor:
        angles = c.float()[:, None] * self.frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=1)


class Checkpointed(nn.Module):
    """A block that can recompute its activations in the backward pass instead of keeping them."""

    recompute = False


class ResidualBlock(Checkpointed):
    """norm, SiLU, conv, + time, norm, SiLU, dropout, conv, + shortcut (Ho et al. 2020, appendix B).

    With `scale_shift` the embedding scales and shifts the second norm instead (Dhariwal & Nichol 2021, "AdaGN"). With
    `recompute`, the backward pass recomputes the activations inside the block instead of keeping them.
    """

    def __init__(
        self, in_channels: int, channels: int, embedding: int, dropout: float, scale_shift: bool, groups: int = 32
    ):
        super().__init__()
        self.norm1 = normalize(in_channels, groups)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.time = nn.Linear(embedding, 2 * channels if scale_shift else channels)
        self.norm2 = normalize(channels, groups)
        self.dropout = Dropout(dropout)
        self.conv2 = zeroed(nn.Conv2d(channels, channels, 3, padding=1))
        self.shortcut = nn.Identity() if in_channels == channels else nn.Conv2d(in_channels, channels, 1)
        self.scale_shift = scale_shift

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """x (B,C,H,W), embedding (B,E) after SiLU."""
        if self.recompute and torch.is_grad_enabled():
            random = self.dropout.p > 0
            out: Tensor = checkpoint(self.residual, x, embedding, use_reentrant=False, preserve_rng_state=random)
            return out
        return self.residual(x, embedding)

    def residual(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        time = self.time(embedding)[:, :, None, None]
        if self.scale_shift:
            scale, shift = time.chunk(2, dim=1)
            h = self.norm2(h) * (1 + scale) + shift
        else:
            h = self.norm2(h + time)
        return self.shortcut(x) + self.conv2(self.dropout(F.silu(h)))


class Attention(nn.Module):
    """Self-attention over the H*W positions, with a residual (Ho et al. 2020, appendix B)."""

    def __init__(self, channels: int, heads: int, groups: int = 32):
        super().__init__()
        if channels % heads:
            raise ValueError(f"heads: must divide the {channels} channels of every level with attention, got {heads}")
        self.heads = heads
        self.norm = normalize(channels, groups)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.project = zeroed(nn.Linear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        tokens = self.norm(x).permute(0, 2, 3, 1).reshape(b, h * w, c)  # a view if x is channels_last
        q, k, v = self.qkv(tokens).view(b, h * w, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        out = attention(q, k, v).transpose(1, 2).reshape(b, h * w, c)
        return x + self.project(out).view(b, h, w, c).permute(0, 3, 1, 2)


class Downsample(nn.Module):
    """A 3x3 convolution with stride 2, padded only below and to the right, like the authors' 'SAME' padding."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Nearest-neighbour upsampling by 2, then a 3x3 convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = DoublingConv2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out
