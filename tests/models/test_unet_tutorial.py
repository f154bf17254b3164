"""The tutorial's network for 28x28 pixels, compared with an independent implementation of its equations."""

import math
from collections.abc import Mapping

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from ddpm_cli.diffusion.continuous import EDMSchedule, FlowSchedule
from ddpm_cli.diffusion.schedule import CosineSchedule, LinearSchedule, Schedule
from ddpm_cli.diffusion.target import Epsilon, Velocity
from ddpm_cli.models.unet_tutorial import UNetTutorial
from ddpm_cli.objectives.denoising import Denoising


def test_parameters() -> None:
    model = UNetTutorial(n_steps=1000)
    assert sum(p.numel() for p in model.parameters()) == 606_852
    assert [p.numel() for p in model.parameters() if not p.requires_grad] == [100_000]
    assert sum(p.numel() for p in UNetTutorial(n_steps=200).parameters()) == 606_852 - 80_000


def test_the_frozen_table() -> None:
    table = UNetTutorial(n_steps=7).table
    assert table.shape == (7, 100)
    for row, column in ((0, 0), (0, 1), (3, 0), (3, 1), (6, 50), (6, 51), (6, 99)):
        wave = math.sin if column % 2 == 0 else math.cos
        assert float(table[row, column]) == pytest.approx(wave(row * 10_000 ** (-2 * column / 100)), abs=1e-6)


# --- the tutorial, as functions of tensors ---


def swish(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


def conv(w: Mapping[str, Tensor], name: str, x: Tensor, stride: int = 1, padding: int = 1) -> Tensor:
    return F.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], stride, padding)


def transposed(w: Mapping[str, Tensor], name: str, x: Tensor, stride: int, padding: int) -> Tensor:
    return F.conv_transpose2d(x, w[f"{name}.weight"], w[f"{name}.bias"], stride, padding)


def stage(w: Mapping[str, Tensor], i: int, x: Tensor, time: Tensor, last: bool = False) -> Tensor:
    def linear(name: str, v: Tensor) -> Tensor:
        return v @ w[f"stages.{i}.time.{name}.weight"].T + w[f"stages.{i}.time.{name}.bias"]

    x = x + linear("2", swish(linear("0", time)))[:, :, None, None]
    for k in range(3):
        name = f"stages.{i}.blocks.{k}"
        if not (last and k == 2):
            mean, variance = x.mean((1, 2, 3), keepdim=True), x.var((1, 2, 3), unbiased=False, keepdim=True)
            x = (x - mean) / (variance + 1e-5).sqrt() * w[f"{name}.norm.weight"] + w[f"{name}.norm.bias"]
        x = swish(conv(w, f"{name}.conv2", swish(conv(w, f"{name}.conv1", x))))
    return x


def network(w: Mapping[str, Tensor], x: Tensor, index: Tensor) -> Tensor:
    time = w["table"][index]
    at_28 = stage(w, 0, x, time)
    at_14 = stage(w, 1, conv(w, "down.0", at_28, stride=2), time)
    at_7 = stage(w, 2, conv(w, "down.1", at_14, stride=2), time)
    shrunk = swish(conv(w, "down.2.0", at_7, padding=0))
    middle = stage(w, 3, conv(w, "down.2.2", shrunk, stride=2), time)
    assert middle.shape[2:] == (3, 3)
    grown = transposed(w, "up.0.2", swish(transposed(w, "up.0.0", middle, 2, 1)), 1, 0)
    out = stage(w, 4, torch.cat((at_7, grown), 1), time)
    out = stage(w, 5, torch.cat((at_14, transposed(w, "up.1", out, 2, 1)), 1), time)
    out = stage(w, 6, torch.cat((at_28, transposed(w, "up.2", out, 2, 1)), 1), time, last=True)
    return conv(w, "conv_out", out)


@pytest.mark.parametrize("in_channels", [1, 3])
def test_it_equals_the_tutorials_equations(in_channels: int) -> None:
    torch.manual_seed(0)
    model = UNetTutorial(in_channels).eval()
    with torch.no_grad():
        for p in model.parameters():  # norms start at 1 and 0, where an error may not show
            p.add_(0.1 * torch.randn(p.shape) * p.requires_grad)
        x, index = torch.randn(3, in_channels, 28, 28), torch.tensor([0, 500, 999])
        expected = network(model.state_dict(), x, index)
        torch.testing.assert_close(model(x, index.float()), expected, atol=1e-5, rtol=1e-5)
    assert float(expected.std()) > 0.05


@pytest.mark.parametrize("steps", [1, 200, 999, 1000])
def test_the_conditioning_of_a_schedule_selects_the_row(steps: int) -> None:
    """t = k / T becomes k / T * T - 1, which is not exactly k - 1 in float32."""
    model, schedule = UNetTutorial(n_steps=steps), LinearSchedule(steps=steps)
    t = (torch.arange(1, steps + 1, dtype=torch.float64) / steps).float()
    assert torch.equal(model.embed(schedule.conditioning(t)), model.table)


def test_times_between_two_rows_are_interpolated() -> None:
    model = UNetTutorial(n_steps=10)
    embedding = model.embed(torch.tensor([4.25, -0.6, 9.7]))
    table = model.table
    torch.testing.assert_close(embedding, torch.stack([0.75 * table[4] + 0.25 * table[5], table[0], table[9]]))


@pytest.mark.parametrize("schedule", [FlowSchedule(), EDMSchedule(), LinearSchedule(steps=200)], ids=lambda s: str(s))
def test_a_schedule_without_these_steps_is_refused(schedule: Schedule) -> None:
    objective = Denoising(Velocity() if isinstance(schedule, FlowSchedule) else Epsilon())
    with pytest.raises(ValueError, match=r"^model.n_steps: this network has 1000 time steps"):
        objective.wrap(UNetTutorial(), schedule)
    Denoising(Epsilon()).wrap(UNetTutorial(), CosineSchedule())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 32}, "image_size: must be 28 for this network, got 32; set dataset.size=28"),
        ({"image_size": (28, 14)}, "image_size: "),
        ({"n_steps": None}, "n_steps: this network needs a schedule with steps"),
        ({"n_steps": 0}, "n_steps: must be at least 1"),
        ({"channels": 0}, "channels: must be at least 1"),
        ({"in_channels": 0}, "in_channels: must be at least 1"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        UNetTutorial(**options)  # type: ignore[arg-type]


def test_a_learned_variance_doubles_the_channels() -> None:
    out = UNetTutorial(2, n_steps=10, learned_variance=True)(torch.randn(1, 2, 28, 28), torch.zeros(1))
    assert out.shape == (1, 4, 28, 28)
