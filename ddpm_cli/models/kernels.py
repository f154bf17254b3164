"""Group normalisation, dropout, attention and upsampling that are faster on a CPU than torch's, where torch is slow.

They compute the same as torch, in the dtype of their input, and call torch in all other cases: on other devices, with
other layouts, and, for norm and dropout, in compiled code, which is fused anyway. Everything else about the layers
(parameters, names, state) is the same as in torch.
"""

import platform
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

NARROW = 16
"""Channels per group below which torch's kernel for channels_last does not fill a vector register."""
WIDE_MAP = 1024
"""Number of positions from which on the forward pass of that kernel goes by rows, not by groups, and is fast."""
FEW_POSITIONS = 256
"""Number of positions L up to which keeping the L^2 attention scores is cheaper than recomputing them."""

ON_X86 = torch.backends.mkldnn.is_available() and platform.machine() in ("x86_64", "AMD64")
"""Whether oneDNN's x86 kernels are available, in which transposed convolutions are as fast as others."""


def _is_bf16_on_cpu(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.bfloat16


def _eager() -> bool:
    return not torch.compiler.is_compiling()


def _channels_last(x: Tensor) -> bool:
    return x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)


class GroupNorm(nn.GroupNorm):
    """torch.nn.GroupNorm (Wu & He 2018); with a faster backward pass if groups are narrow and x is channels_last."""

    def forward(self, x: Tensor) -> Tensor:
        """x (B,C,H,W) -> (B,C,H,W)."""
        narrow = self.num_channels // self.num_groups < NARROW and self.affine and len(x) > 0
        if narrow and _is_bf16_on_cpu(x) and _channels_last(x) and _eager() and self.weight.dtype == torch.float32:
            out: Tensor = _NarrowGroupNorm.apply(x, self.weight, self.bias, self.num_groups, self.eps)
            return out
        return super().forward(x)


class _NarrowGroupNorm(torch.autograd.Function):
    """y = (x - m) r w + b with mean m and reciprocal standard deviation r of each group, from sums over rows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
        b, c, h, w = x.shape
        # with few positions, float32 uses another kernel, which is faster even with both conversions
        converted = x if h * w >= WIDE_MAP else x.float()
        out, mean, rstd = torch.native_group_norm(converted, weight, bias, b, c, h * w, groups, eps)
        ctx.save_for_backward(x, weight, mean, rstd)
        return out.to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        """With t = sum g, s = sum g (x - m) over the positions, T = sum w t and S = sum w s over a group of n numbers:

        dx = r w g + k (x - m) - r T / n with k = -S r^3 / n, dw = r sum s, db = sum t.

        m is subtracted in bf16 before any multiplication, as it may be much larger than the standard deviation; the
        remainder after `_coarse` is subtracted in float32. torch sums bf16 in float32 and rounds the sum once, as for
        the gradient of a convolution; with dtype=float32 it would first convert all of x to float32.
        """
        x, weight, mean, rstd = ctx.saved_tensors
        b, c, h, w = x.shape
        groups = mean.shape[-1]
        x, grad = (z.permute(0, 2, 3, 1).reshape(b, h * w, c) for z in (x, grad))
        of_group = weight.view(groups, -1)
        mean, rstd = mean.view(b, groups, 1).float(), rstd.view(b, groups, 1).float()

        def of_channels(z: Tensor) -> Tensor:
            return z.expand(b, groups, c // groups).reshape(b, 1, c).to(x.dtype)

        rounded = _coarse(mean, rstd)
        remainder = rounded - mean
        centred = x - of_channels(rounded)
        t = grad.sum(1).float().view(b, groups, -1)
        s = (centred * grad).sum(1).float().view(b, groups, -1) + remainder * t
        n = h * w * (c // groups)
        k = -(s * of_group).sum(2, keepdim=True) * rstd**3 / n
        constant = k * remainder - rstd * (t * of_group).sum(2, keepdim=True) / n
        dx = torch.addcmul(of_channels(constant), centred, of_channels(k)).addcmul_(grad, of_channels(rstd * of_group))
        return dx.view(b, h, w, c).permute(0, 3, 1, 2), (s * rstd).sum(0).view(c), t.sum(0).view(c), None, None


def _coarse(mean: Tensor, rstd: Tensor) -> Tensor:
    """The mean, rounded to the spacing that bf16 has at |mean| + 4 deviations.

    A finer mean, subtracted from large numbers, would be rounded always to the same side, and the errors would add up.
    """
    _, exponent = torch.frexp(mean.abs() + 4 / rstd)
    spacing = torch.ldexp(torch.ones_like(mean), exponent - 8)  # 8 bits of significand
    return (mean / spacing).round() * spacing


class Dropout(nn.Dropout):
    """torch.nn.Dropout (Srivastava et al. 2014) with 16 random bits per element, dropped if below round(65536 p).

    torch draws a double-precision number per element.
    """

    def forward(self, x: Tensor) -> Tensor:
        dropped = round(self.p * 2**16)
        last = _channels_last(x)
        inactive = not self.training or self.inplace or not 0 < dropped < 2**16
        supported = x.device.type == "cpu" and x.dtype in (torch.bfloat16, torch.float32)
        if inactive or not supported or not _eager() or not (last or x.is_contiguous()):
            return super().forward(x)
        least = dropped - 2**15
        words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        bits = words.view(torch.int16)[: x.numel()].clamp_(least - 1, least).sub_(least - 1)
        mask = bits.to(x.dtype).mul_(1 / (1 - dropped / 2**16))
        return x * (mask.view(x.permute(0, 2, 3, 1).shape).permute(0, 3, 1, 2) if last else mask.view(x.shape))


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v (Vaswani et al. 2017), each (B,heads,L,d).

    In training with few positions, scores are rounded to bf16, as in any attention written out under autocast: a score
    of 16 may be off by 0.03, and weights by 3 %. torch's function keeps them in float32 and takes up to six times as
    long.
    """
    short = q.shape[-2] <= FEW_POSITIONS and k.shape[-2] <= FEW_POSITIONS
    if short and _is_bf16_on_cpu(q) and torch.is_grad_enabled():
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        return scores.softmax(-1) @ v
    return F.scaled_dot_product_attention(q, k, v)


def doubled(x: Tensor) -> Tensor:
    """Nearest-neighbour upsampling by 2, as torch's, for compiled code: (B,C,H,W) -> (B,C,2H,2W).

    torch's compiler makes of F.interpolate a lookup, whose gradient is added up with atomic operations: in an order
    that changes from call to call, and slowly. The gradient of a repetition is a plain sum, fused with its neighbours.
    """
    b, c, h, w = x.shape
    return x[:, :, :, None, :, None].expand(b, c, h, 2, w, 2).reshape(b, c, 2 * h, 2 * w)


class DoublingConv2d(nn.Conv2d):
    """Nearest-neighbour upsampling by 2, then a 3x3 convolution with padding 1: (B,C,H,W) -> (B,C,2H,2W).

    Written like that, each output needs nine products, although only four different inputs are under the kernel. A
    transposed convolution with stride 2, whose 4x4 weights are sums of the 3x3 ones, needs four: w4 = flipped w * 2x2
    box.
    """

    def __init__(self, channels: int):
        super().__init__(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        cheap = 4 * x.shape[2] * x.shape[3] >= self.in_channels  # compared with summing the weights
        if not cheap or x.device.type != "cpu" or not ON_X86:
            wide = F.interpolate(x, scale_factor=2.0, mode="nearest") if _eager() else doubled(x)
            return super().forward(wide)
        w = self.weight.flip(2, 3).transpose(0, 1)
        w = F.pad(w, (0, 1)) + F.pad(w, (1, 0))
        w = F.pad(w, (0, 0, 0, 1)) + F.pad(w, (0, 0, 1, 0))
        return F.conv_transpose2d(x, w, self.bias, stride=2, padding=1)
