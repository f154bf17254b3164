"""The small U-Net of Brian Pulfer's DDPM tutorial, for 28x28 pixels."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

SIZE = 28
"""Image size: the levels have 28, 14, 7 and 3 pixels; a 2x2 convolution first reduces 7 to 6."""
WIDTH = 100
"""Width of the time embedding."""


class UNetTutorial(nn.Module):
    """x (B,C,28,28), c (B,) the index 0..T-1 of the time -> (B,C,28,28); 2C with `learned_variance`.

    Seven stages of three blocks, at 28, 14, 7, 3, 7, 14 and 28 pixels, with skip connections from the first three to
    the last three. Times between two indices, which occur in some samplers but not in training, are interpolated. The
    defaults are the tutorial's network: 606,852 parameters, of which 100,000 are the frozen table.

    Args:
        in_channels: C, 1 for grey and 3 for RGB.
        image_size: 28 (or [28, 28]).
        n_steps: T, the number of rows of the table of times: the schedule's `steps`. None = the schedule has no steps.
        channels: width of the first stage; the next two have twice and four times that.
        learned_variance: output twice the channels: the target, and the variance as a position between its bounds.

    Raises:
        ValueError: images of another size, a schedule without steps, or a number out of range.
    """

    def __init__(
        self,
        in_channels: int = 1,
        image_size: int | tuple[int, int] = SIZE,
        n_steps: int | None = 1000,
        channels: int = 10,
        learned_variance: bool = False,
    ):
        super().__init__()
        self.learned_variance = learned_variance
        if image_size not in (SIZE, (SIZE, SIZE)):
            raise ValueError(f"image_size: must be {SIZE} for this network, got {image_size}; set dataset.size={SIZE}")
        if n_steps is None:
            raise ValueError(
                "n_steps: this network needs a schedule with steps; use schedule=linear or schedule=cosine"
            )
        for name, value in (("in_channels", in_channels), ("n_steps", n_steps), ("channels", channels)):
            if value < 1:
                raise ValueError(f"{name}: must be at least 1, got {value}")
        self.n_steps = n_steps
        a, b, c = channels, 2 * channels, 4 * channels
        self.table = nn.Parameter(sinusoids(n_steps), requires_grad=False)
        self.stages = nn.ModuleList(
            [
                Stage((in_channels, a, a, a), 28),
                Stage((a, b, b, b), 14),
                Stage((b, c, c, c), 7),
                Stage((c, b, b, c), 3),
                Stage((2 * c, c, b, b), 7),
                Stage((2 * b, b, a, a), 14),
                Stage((2 * a, a, a, a), 28, last=True),
            ]
        )
        self.down = nn.ModuleList(
            [
                nn.Conv2d(a, a, 4, 2, 1),
                nn.Conv2d(b, b, 4, 2, 1),
                nn.Sequential(nn.Conv2d(c, c, 2), nn.SiLU(), nn.Conv2d(c, c, 4, 2, 1)),
            ]
        )
        self.up = nn.ModuleList(
            [
                nn.Sequential(nn.ConvTranspose2d(c, c, 4, 2, 1), nn.SiLU(), nn.ConvTranspose2d(c, c, 2)),
                nn.ConvTranspose2d(b, b, 4, 2, 1),
                nn.ConvTranspose2d(a, a, 4, 2, 1),
            ]
        )
        self.conv_out = nn.Conv2d(a, in_channels * (1 + learned_variance), 3, padding=1)

    def forward(self, x: Tensor, c: Tensor, y: Tensor | None = None) -> Tensor:
        """y is ignored: this network does not use classes."""
        time = self.embed(c)
        skips = []
        for stage, down in zip(self.stages[:3], self.down, strict=True):
            skips.append(stage(x, time))
            x = down(skips[-1])
        x = self.stages[3](x, time)
        for stage, up in zip(self.stages[4:], self.up, strict=True):
            x = stage(torch.cat([skips.pop(), up(x)], dim=1), time)
        out: Tensor = self.conv_out(x)
        return out

    def embed(self, c: Tensor) -> Tensor:
        """(B,) -> (B,100): a row of the table, or the interpolation of two."""
        whole = c.float().round()
        c = torch.where((c - whole).abs() < 1e-2, whole, c.float()).clamp(
            0, self.n_steps - 1
        )  # k / T * T is not exactly k
        low = c.floor().long()
        high = (low + 1).clamp(max=self.n_steps - 1)
        return torch.lerp(self.table[low], self.table[high], (c - low)[:, None])


class Stage(nn.Module):
    """Three blocks applied to the input plus Linear(SiLU(Linear(time))).

    Args:
        widths: channels of the input and of the output of each block.
        size: H = W.
        last: the third block does not apply its norm.
    """

    def __init__(self, widths: tuple[int, int, int, int], size: int, last: bool = False):
        super().__init__()
        self.time = nn.Sequential(nn.Linear(WIDTH, widths[0]), nn.SiLU(), nn.Linear(widths[0], widths[0]))
        self.blocks = nn.Sequential(
            *(Block(widths[i], widths[i + 1], size, normed=not (last and i == 2)) for i in range(3))
        )

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        out: Tensor = self.blocks(x + self.time(time)[:, :, None, None])
        return out


class Block(nn.Module):
    """LayerNorm over (C,H,W), 3x3 conv, SiLU, 3x3 conv, SiLU.

    Without `normed` the norm exists but is not applied, as in the tutorial, whose number of parameters includes it.
    """

    def __init__(self, in_channels: int, channels: int, size: int, normed: bool):
        super().__init__()
        self.normed = normed
        self.norm = nn.LayerNorm((in_channels, size, size))
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.conv2(F.silu(self.conv1(self.norm(x) if self.normed else x))))


def sinusoids(rows: int) -> Tensor:
    """(rows,100): sin(k w_j) in even columns j, cos(k w_j) in odd ones, w_j = 10000^(-2j / 100).

    The exponent counts columns, not pairs of them, as in the tutorial (Vaswani et al. 2017 count pairs).
    """
    column = torch.arange(WIDTH, dtype=torch.float64)
    angle = torch.arange(rows, dtype=torch.float64)[:, None] * 10_000 ** (-2 * column / WIDTH)
    return torch.where(column % 2 == 0, angle.sin(), angle.cos()).float()
