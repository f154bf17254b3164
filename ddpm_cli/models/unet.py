"""The U-Net of Ho et al. 2020 (appendix B), with options from later papers."""

from collections.abc import Sequence
from typing import Literal, cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from .layers import Attention, Downsample, ResidualBlock, SinusoidalEmbedding, Upsample, normalize, zeroed

NO_CLASSES = (
    "this dataset has no classes; use class_conditional=false, "
    "or sort a folder of pictures into at least two subfolders"
)


USUAL_WIDTH = 64
"""`channels` of networks for small pictures and a CPU."""


Side = Literal["height", "shorter"]


def level_sides(height: int, width: int, levels: int, side: Side) -> list[int]:
    """The height, or the shorter side, of each level in pixels of the image."""
    first = height if side == "height" else min(height, width)
    return [first // 2**i for i in range(levels)]


class UNet(nn.Module):
    """x (B,C,H,W), c (B,), y (B,) or None -> (B,C,H,W); 2C with `self_condition` (in) and `learned_variance` (out).

    The defaults are the authors' CIFAR-10 network: 35,746,307 parameters.

    Args:
        in_channels: C, 1 for grey and 3 for RGB.
        image_size: H and W (one number if square); patch_size * 2^(levels - 1) must divide both.
        channels: width of the first level; auto = `USUAL_WIDTH`, where `training.width` does not choose one.
        multipliers: width of every level as a multiple of `channels`; each further level halves H and W.
        blocks: residual blocks per level (one more per level in the decoder).
        attention_resolutions: levels of this side have attention after each block; the middle always has it.
        attention_side: which side that is, of images that are not square; `height` in older runs.
        heads: number of attention heads.
        dropout: dropout before the second convolution of each block, in [0, 1).
        scale_shift_norm: the embedding scales and shifts the norm (AdaGN) instead of being added.
        class_conditional: add a learned class embedding to that of the time; None = if there are classes.
        num_classes: number of classes; None or 0 = none.
        patch_size: p, folds p x p pixels into channels first, for p^2 times fewer positions.
        fine_channels: end with two convolutions of this width at full resolution, which also get x, to avoid seams
            between patches; 0 = no such convolutions.
        norm_groups: maximum number of groups in each group normalisation. With at least 16 channels per group it is
            many times faster on a CPU.
        learned_variance: output twice the channels: the target, and the variance as a position between its bounds.
        self_condition: input twice the channels: x_t and an earlier estimate of x0.

    Raises:
        ValueError: a size cannot be halved, a width cannot be split into heads, or an option is out of range.
    """

    def __init__(
        self,
        in_channels: int = 3,
        image_size: int | tuple[int, int] = 32,
        channels: int | Literal["auto"] = 128,
        multipliers: Sequence[int] = (1, 2, 2, 2),
        blocks: int = 2,
        attention_resolutions: Sequence[int] = (16,),
        heads: int = 1,
        dropout: float = 0.1,
        scale_shift_norm: bool = False,
        class_conditional: bool | None = False,
        num_classes: int | None = None,
        patch_size: int = 1,
        fine_channels: int = 0,
        norm_groups: int = 32,
        learned_variance: bool = False,
        self_condition: bool = False,
        attention_side: Side = "height",
    ):
        super().__init__()
        self.learned_variance = learned_variance
        channels = USUAL_WIDTH if channels == "auto" else channels
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        check_shape(height, width, channels, multipliers, blocks, heads, dropout, patch_size)
        for name, value, least in (("fine_channels", fine_channels, 0), ("norm_groups", norm_groups, 1)):
            if value < least:
                raise ValueError(f"{name}: must be at least {least}, got {value}")
        if class_conditional and not num_classes:
            raise ValueError(f"class_conditional: {NO_CLASSES}")
        self.class_conditional = bool(num_classes) if class_conditional is None else class_conditional
        self.patch_size = patch_size
        self.self_condition = self_condition
        embedding = 4 * channels
        self.time = nn.Sequential(
            SinusoidalEmbedding(channels), nn.Linear(channels, embedding), nn.SiLU(), nn.Linear(embedding, embedding)
        )
        self.label = nn.Embedding(num_classes, embedding) if self.class_conditional and num_classes else None

        self.levels = level_sides(height, width, len(multipliers), attention_side)
        self.unused_attention = [side for side in attention_resolutions if side not in self.levels]

        def level(inputs: int, outputs: int, resolution: int) -> nn.ModuleList:
            block = ResidualBlock(inputs, outputs, embedding, dropout, scale_shift_norm, norm_groups)
            attend = resolution * patch_size * self.levels[0] // height in attention_resolutions
            return nn.ModuleList([block, Attention(outputs, heads, norm_groups)] if attend else [block])

        resolution = height // patch_size
        widths = [channels * m for m in multipliers]
        folded = in_channels * patch_size**2
        self.conv_in = nn.Conv2d(folded * (1 + self_condition), channels, 3, padding=1)
        self.down, skips, current = nn.ModuleList(), [channels], channels
        for i, out in enumerate(widths):
            for _ in range(blocks):
                self.down.append(level(current, out, resolution))
                current = out
                skips.append(current)
            if i < len(widths) - 1:
                self.down.append(nn.ModuleList([Downsample(current)]))
                skips.append(current)
                resolution //= 2
        self.middle = nn.ModuleList(
            [
                ResidualBlock(current, current, embedding, dropout, scale_shift_norm, norm_groups),
                Attention(current, heads, norm_groups),
                ResidualBlock(current, current, embedding, dropout, scale_shift_norm, norm_groups),
            ]
        )
        self.up = nn.ModuleList()
        for i, out in reversed(list(enumerate(widths))):
            for _ in range(blocks + 1):
                self.up.append(level(current + skips.pop(), out, resolution))
                current = out
            if i > 0:
                self.up.append(nn.ModuleList([Upsample(current)]))
                resolution *= 2
        self.norm_out = normalize(current, norm_groups)
        inputs, outputs = in_channels * (1 + self_condition), in_channels * (1 + learned_variance)
        self.fine: nn.Module | None = None
        if fine_channels:
            self.conv_out: nn.Module = nn.Conv2d(current, fine_channels * patch_size**2, 3, padding=1)
            self.fine = nn.Sequential(
                nn.Conv2d(fine_channels + inputs, fine_channels, 3, padding=1),
                nn.SiLU(),
                zeroed(nn.Conv2d(fine_channels, outputs, 3, padding=1)),
            )
        else:
            self.conv_out = zeroed(nn.Conv2d(current, folded * (1 + learned_variance), 3, padding=1))
        initialize(self)

    def embed(self, c: Tensor, y: Tensor | None) -> Tensor:
        """(B,), (B,) -> (B,E). A label of -1 or y = None means no label."""
        embedding = self.time(c)
        if self.label is not None and y is not None:
            embedding = embedding + self.label(y.clamp(min=0)) * (y >= 0)[:, None]
        return F.silu(embedding)

    def forward(self, x: Tensor, c: Tensor, y: Tensor | None = None) -> Tensor:
        embedding, pixels = self.embed(c, y), x
        x = self.conv_in(F.pixel_unshuffle(x, self.patch_size) if self.patch_size > 1 else x)
        skips = [x]
        for stage in self.down:
            x = _run(stage, x, embedding)
            skips.append(x)
        x = _run(self.middle, x, embedding)
        for stage in self.up:
            wide = x if isinstance(cast(nn.ModuleList, stage)[0], Upsample) else torch.cat([x, skips.pop()], dim=1)
            x = _run(stage, wide, embedding)
        x = self.conv_out(F.silu(self.norm_out(x)))
        x = F.pixel_shuffle(x, self.patch_size) if self.patch_size > 1 else x
        return x if self.fine is None else self.fine(torch.cat([x, pixels.to(x.dtype)], dim=1))


def _run(stage: nn.Module, x: Tensor, embedding: Tensor) -> Tensor:
    for layer in cast(nn.ModuleList, stage):
        x = layer(x, embedding) if isinstance(layer, ResidualBlock) else layer(x)
    return x


def initialize(model: nn.Module) -> None:
    """Glorot uniform weights and zero biases (the authors' fan-average scaling), except for layers that are zero."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            if module.weight.count_nonzero():
                nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def check_shape(
    height: int,
    width: int,
    channels: int,
    multipliers: Sequence[int],
    blocks: int,
    heads: int,
    dropout: float,
    patch_size: int,
) -> None:
    """Raises ValueError, naming the option, if one is out of range or the image size does not fit."""
    for name, value in (("channels", channels), ("blocks", blocks), ("heads", heads), ("patch_size", patch_size)):
        if value < 1:
            raise ValueError(f"{name}: must be at least 1, got {value}")
    if not multipliers or min(multipliers) < 1:
        raise ValueError(f"multipliers: must be one positive number per level, got {list(multipliers)}")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout: must be in [0, 1), got {dropout}")
    step = patch_size * 2 ** (len(multipliers) - 1)
    for side in (height, width):
        if side < 1 or side % step:
            near = sorted({max(side // step, 1) * step, (side // step + 1) * step})
            raise ValueError(
                f"image_size: {side} is not divisible by {step} (patch_size {patch_size}, {len(multipliers)} levels); "
                f"set dataset.size to {' or '.join(map(str, near))}, or use fewer multipliers"
            )
