"""The annotated DDPM's network, compared with an independent implementation of its equations."""

import math
from collections.abc import Mapping

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from ddpm_cli.models.unet_annotated import UNetAnnotated

TUTORIAL = {"compound_multipliers": True, "attention_norm": False}


def count(**options: object) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in UNetAnnotated(**options).parameters())  # type: ignore[arg-type]


def test_parameters() -> None:
    assert count(in_channels=3, **TUTORIAL) == 167_777_987
    assert count(in_channels=1, **TUTORIAL) == 167_775_681
    assert count(in_channels=3, compound_multipliers=True, attention_norm=True) == 167_777_987
    assert count(in_channels=3) == 16_289_475  # the defaults of the YAML file


def test_widths() -> None:
    def widths(compound: bool) -> set[int]:
        with torch.device("meta"):
            model = UNetAnnotated(compound_multipliers=compound)
        return {m.conv2.out_channels for m in model.modules() if hasattr(m, "conv2")}

    assert widths(True) == {64, 128, 256, 1024}
    assert widths(False) == {64, 128, 256}


# --- the tutorial, as functions of tensors ---


def conv(w: Mapping[str, Tensor], name: str, x: Tensor, stride: int = 1, padding: int = 1) -> Tensor:
    return F.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], stride, padding)


def linear(w: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def norm(w: Mapping[str, Tensor], name: str, x: Tensor, groups: int) -> Tensor:
    """Group normalisation: each group of channels gets mean 0 and variance 1."""
    b, c, height, width = x.shape
    grouped = x.reshape(b, groups, -1)
    mean, variance = grouped.mean(2, keepdim=True), grouped.var(2, unbiased=False, keepdim=True)
    x = ((grouped - mean) / (variance + 1e-5).sqrt()).reshape(b, c, height, width)
    return x * w[f"{name}.weight"].view(1, c, 1, 1) + w[f"{name}.bias"].view(1, c, 1, 1)


def swish(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


def residual(w: Mapping[str, Tensor], name: str, x: Tensor, time: Tensor) -> Tensor:
    h = conv(w, f"{name}.conv1", swish(norm(w, f"{name}.norm1", x, 32)))
    h = h + linear(w, f"{name}.time", swish(time))[:, :, None, None]
    h = conv(w, f"{name}.conv2", swish(norm(w, f"{name}.norm2", h, 32)))
    return h + (conv(w, f"{name}.shortcut", x, padding=0) if f"{name}.shortcut.weight" in w else x)


def attention(w: Mapping[str, Tensor], name: str, x: Tensor, normed: bool) -> Tensor:
    b, c, height, width = x.shape
    tokens = (norm(w, f"{name}.norm", x, 32) if normed else x).view(b, c, -1).permute(0, 2, 1)
    q, k, v = linear(w, f"{name}.qkv", tokens).chunk(3, dim=-1)
    scores = torch.einsum("bid,bjd->bij", q, k) * c**-0.5
    result = linear(w, f"{name}.project", torch.einsum("bij,bjd->bid", scores.softmax(dim=2), v))
    return (result + x.view(b, c, -1).permute(0, 2, 1)).permute(0, 2, 1).view(b, c, height, width)


def network(
    w: Mapping[str, Tensor], x: Tensor, t: Tensor, multipliers: list[int], attends: list[bool], normed: bool
) -> Tensor:
    """Two blocks per level; `down.N` and `up.N` number blocks and changes of size alike."""
    half = w["conv_in.weight"].shape[0] // 2  # n / 8 frequencies with n = 4 channels
    angles = t[:, None] * torch.tensor([math.exp(-math.log(10_000) * k / (half - 1)) for k in range(half)])
    time = linear(w, "time.3", swish(linear(w, "time.1", torch.cat([angles.sin(), angles.cos()], 1))))
    levels, number = len(multipliers), 0

    def block(side: str, x: Tensor, attend: bool) -> Tensor:
        x = residual(w, f"{side}.{number}.0", x, time)
        return attention(w, f"{side}.{number}.1", x, normed) if attend else x

    x = conv(w, "conv_in", x)
    skips = [x]
    for i in range(levels):
        for _ in range(2):
            x = block("down", x, attends[i])
            skips.append(x)
            number += 1
        if i < levels - 1:
            x = conv(w, f"down.{number}.0", x, stride=2)
            skips.append(x)
            number += 1
    x = attention(w, "middle.1", residual(w, "middle.0", x, time), normed)
    x, number = residual(w, "middle.2", x, time), 0
    for i in reversed(range(levels)):
        for _ in range(3):
            x = block("up", torch.cat((x, skips.pop()), 1), attends[i])
            number += 1
        if i > 0:
            x = F.conv_transpose2d(x, w[f"up.{number}.0.weight"], w[f"up.{number}.0.bias"], stride=2, padding=1)
            number += 1
    return conv(w, "conv_out", swish(norm(w, "norm_out", x, 8)))


@pytest.mark.parametrize(("compound", "normed"), [(True, False), (False, True), (True, True)])
def test_it_equals_the_tutorials_equations(compound: bool, normed: bool) -> None:
    torch.manual_seed(0)
    multipliers, attends = [1, 2, 2], [False, True, True]
    model = UNetAnnotated(
        3, 12, 32, multipliers, attends, compound_multipliers=compound, attention_norm=normed
    ).eval()  # fmt: skip
    with torch.no_grad():
        for p in model.parameters():  # norms start at 1 and 0, where an error may not show
            p.add_(0.05 * torch.randn(p.shape))
        x, t = torch.randn(2, 3, 12, 12), torch.tensor([3.0, 998.0])
        expected = network(model.state_dict(), x, t, multipliers, attends, normed)
        torch.testing.assert_close(model(x, t), expected, atol=1e-5, rtol=1e-5)
    assert float(expected.std()) > 0.05


def test_a_norm_that_is_not_applied_has_no_effect() -> None:
    torch.manual_seed(0)
    x, t = torch.randn(1, 1, 8, 8), torch.tensor([5.0])
    for normed in (False, True):
        model = UNetAnnotated(1, 8, 16, (1, 2), (False, True), attention_norm=normed).eval()
        before = model(x, t)
        with torch.no_grad():
            model.get_parameter("middle.1.norm.weight").fill_(3)
        assert torch.equal(before, model(x, t)) != normed


def test_heads_are_independent() -> None:
    """With the output of the second head set to zero, two heads equal one."""
    torch.manual_seed(0)
    x, t, c = torch.randn(2, 1, 8, 8), torch.tensor([5.0, 7.0]), 16
    two = UNetAnnotated(1, 8, c, (1, 1), (False, False), heads=2).eval()
    one = UNetAnnotated(1, 8, c, (1, 1), (False, False), heads=1).eval()
    weights = two.state_dict()
    weights["middle.1.project.weight"][:, c:] = 0
    two.load_state_dict(weights)
    for name in ("qkv.weight", "qkv.bias"):
        weights[f"middle.1.{name}"] = weights[f"middle.1.{name}"][: 3 * c]
    weights["middle.1.project.weight"] = weights["middle.1.project.weight"][:, :c]
    one.load_state_dict(weights)
    torch.testing.assert_close(one(x, t), two(x, t), atol=1e-5, rtol=1e-5)


def test_classes_and_variance() -> None:
    torch.manual_seed(0)
    model = UNetAnnotated(
        1, 8, 16, (1, 2), (False, True), class_conditional=None, num_classes=3, learned_variance=True
    ).eval()  # fmt: skip
    assert model.class_conditional
    x, t = torch.randn(3, 1, 8, 8), torch.full((3,), 5.0)
    none, known = model(x, t), model(x, t, torch.tensor([-1, 0, 2]))
    assert none.shape == (3, 2, 8, 8)
    assert torch.equal(none[0], known[0]) and not torch.allclose(none[1:], known[1:])
    assert not UNetAnnotated(1, 8, 16, (1, 2), (False, True), num_classes=3).class_conditional


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 28}, r"image_size: 28 is not divisible by 8 .*set dataset.size to 24 or 32"),
        ({"attention": (True,)}, "attention: must be one flag for each of the 4 levels"),
        ({"multipliers": ()}, "multipliers: "),
        ({"channels": 0}, "channels: "),
        ({"heads": 0}, "heads: "),
        ({"dropout": -0.1}, "dropout: "),
        ({"class_conditional": True}, "class_conditional: "),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], message: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=f"^{message}"):
        UNetAnnotated(**options)  # type: ignore[arg-type]
