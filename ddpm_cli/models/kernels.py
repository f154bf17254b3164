"""Group normalisation, dropout, attention and upsampling, faster on a CPU than torch's own where that is slow.

They compute what torch's compute, in the number format that they are handed, and leave every other case to it: other
devices and layouts; and in compiled code, which is fused anyway, norm and dropout. Everything else about the layers
(parameters, names, state) is torch's.
"""

import platform
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

NARROW = 16
"""Channels in a group: with fewer, torch's kernel for channels_last does not fill a vector register."""
WIDE_MAP = 1024
"""Positions from which on that kernel's way forward goes through rows and not through groups, and is fast."""
FEW_POSITIONS = 256
"""Up to so many, all scores of attention are cheaper to keep for the backward pass (L^2 numbers) than to compute twice.
"""

ON_X86 = torch.backends.mkldnn.is_available() and platform.machine() in ("x86_64", "AMD64")
"""Whether oneDNN's kernels of x86 are there, with which transposed convolutions are as fast as others."""


def _low(x: Tensor) -> bool:
    """In bf16 on a CPU."""
    return x.device.type == "cpu" and x.dtype == torch.bfloat16


def _eager() -> bool:
    return not torch.compiler.is_compiling()


def _channels_last(x: Tensor) -> bool:
    return x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)


class GroupNorm(nn.GroupNorm):
    """torch.nn.GroupNorm (Wu & He 2018); several times faster back where groups are narrow and x is channels_last."""

    def forward(self, x: Tensor) -> Tensor:
        """x (B,C,H,W) -> (B,C,H,W)."""
        narrow = self.num_channels // self.num_groups < NARROW and self.affine and len(x) > 0
        if narrow and _low(x) and _channels_last(x) and _eager() and self.weight.dtype == torch.float32:
            out: Tensor = _NarrowGroupNorm.apply(x, self.weight, self.bias, self.num_groups, self.eps)
            return out
        return super().forward(x)


class _NarrowGroupNorm(torch.autograd.Function):
    """y = (x - m) r w + b with mean m and 1 / deviation r of each group, from sums over the rows of channels."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
        b, c, h, w = x.shape
        # few positions: float32 takes another way, which is faster even with both conversions
        shown = x if h * w >= WIDE_MAP else x.float()
        out, mean, rstd = torch.native_group_norm(shown, weight, bias, b, c, h * w, groups, eps)
        ctx.save_for_backward(x, weight, mean, rstd)
        return out.to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        """With t = sum g, s = sum g (x - m) over the positions, T = sum w t and S = sum w s over a group of n numbers:

        dx = r w g + k (x - m) - r T / n with k = -S r^3 / n, dw = r sum s, db = sum t.

        m is taken off in bf16 before anything is multiplied, as it may be much larger than the deviation; what is left
        of it after `_coarse` is taken off in float32. torch adds bf16 up in float32 and rounds a sum once, as it does
        the gradient of a convolution; asked for a sum in float32 it would write all of x in float32 first.
        """
        x, weight, mean, rstd = ctx.saved_tensors
        b, c, h, w = x.shape
        groups = mean.shape[-1]
        x, grad = (z.permute(0, 2, 3, 1).reshape(b, h * w, c) for z in (x, grad))
        of_group = weight.view(groups, -1)
        mean, rstd = mean.view(b, groups, 1).float(), rstd.view(b, groups, 1).float()

        def of_channels(z: Tensor) -> Tensor:
            return z.expand(b, groups, c // groups).reshape(b, 1, c).to(x.dtype)

        near = _coarse(mean, rstd)
        left = near - mean
        centred = x - of_channels(near)
        t = grad.sum(1).float().view(b, groups, -1)
        s = (centred * grad).sum(1).float().view(b, groups, -1) + left * t
        n = h * w * (c // groups)
        k = -(s * of_group).sum(2, keepdim=True) * rstd**3 / n
        constant = k * left - rstd * (t * of_group).sum(2, keepdim=True) / n
        dx = torch.addcmul(of_channels(constant), centred, of_channels(k)).addcmul_(grad, of_channels(rstd * of_group))
        return dx.view(b, h, w, c).permute(0, 3, 1, 2), (s * rstd).sum(0).view(c), t.sum(0).view(c), None, None


def _coarse(mean: Tensor, rstd: Tensor) -> Tensor:
    """The mean, rounded to the spacing that bf16 has at |mean| + 4 deviations.

    Subtracted from large numbers, anything finer would be rounded away, always to the same side, which sums up.
    """
    _, exponent = torch.frexp(mean.abs() + 4 / rstd)
    spacing = torch.ldexp(torch.ones_like(mean), exponent - 8)  # 8 bits of significand
    return (mean / spacing).round() * spacing


class Dropout(nn.Dropout):
    """torch.nn.Dropout (Srivastava et al. 2014); 16 random bits decide over each number, 65536 p rounded being dropped.

    torch's draws a number in double precision for each.
    """

    def forward(self, x: Tensor) -> Tensor:
        dropped = round(self.p * 2**16)
        last = _channels_last(x)
        asleep = not self.training or self.inplace or not 0 < dropped < 2**16
        ours = x.device.type == "cpu" and x.dtype in (torch.bfloat16, torch.float32)
        if asleep or not ours or not _eager() or not (last or x.is_contiguous()):
            return super().forward(x)
        least = dropped - 2**15
        words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        bits = words.view(torch.int16)[: x.numel()].clamp_(least - 1, least).sub_(least - 1)
        mask = bits.to(x.dtype).mul_(1 / (1 - dropped / 2**16))
        return x * (mask.view(x.permute(0, 2, 3, 1).shape).permute(0, 3, 1, 2) if last else mask.view(x.shape))


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v (Vaswani et al. 2017), each (B,heads,L,d).

    In training on few positions scores are rounded to bf16, as by any attention that is written out under autocast: one
    of 16 may be off by 0.03, and weights by 3 %. torch's own keeps them in float32, and takes up to six times as long.
    """
    few = q.shape[-2] <= FEW_POSITIONS and k.shape[-2] <= FEW_POSITIONS
    if few and _low(q) and torch.is_grad_enabled():
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        return scores.softmax(-1) @ v
    return F.scaled_dot_product_attention(q, k, v)


class DoublingConv2d(nn.Conv2d):
    """Nearest neighbour to twice the size, then a 3x3 convolution with padding 1: (B,C,H,W) -> (B,C,2H,2W).

    Every number meets nine weights then, though only four different numbers lie under them. As one transposed
    convolution with stride 2, whose 4x4 weights are sums of the 3x3, it meets four: w4 = flipped w * 2x2 box.
    """

    def __init__(self, channels: int):
        super().__init__(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        cheap = 4 * x.shape[2] * x.shape[3] >= self.in_channels  # against summing the weights
        if not cheap or x.device.type != "cpu" or not ON_X86:
            return super().forward(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        w = self.weight.flip(2, 3).transpose(0, 1)
        w = F.pad(w, (0, 1)) + F.pad(w, (1, 0))
        w = F.pad(w, (0, 0, 0, 1)) + F.pad(w, (0, 0, 1, 0))
        return F.conv_transpose2d(x, w, self.bias, stride=2, padding=1)
