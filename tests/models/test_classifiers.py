"""The classifiers: the tutorial's sizes, an independent implementation, initialisation, refused options."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from ddpm_cli.models.classifier_layers import FUNCTIONS, Classifier, ImageClassifier, gain
from ddpm_cli.models.densenet import DenseNet
from ddpm_cli.models.googlenet import GoogleNet
from ddpm_cli.models.preact_resnet import PreActResNet
from ddpm_cli.models.resnet import ResNet, SkippingConv2d, projection
from ddpm_cli.models.unet_classifier import UNetClassifier

SIZES = {GoogleNet: 260_650, ResNet: 272_378, PreActResNet: 272_250, DenseNet: 239_146}
KINDS = list(SIZES)


def trained(model: ImageClassifier, channels: int = 3, size: int = 32) -> ImageClassifier:
    """The model with statistics and norms as after training: none is 0 or 1, so that an error cannot hide."""
    g = torch.Generator().manual_seed(1)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.weight.data.uniform_(0.5, 1.5, generator=g)
            layer.bias.data.normal_(0, 0.3, generator=g)
    with torch.no_grad():
        for _ in range(5):
            model(torch.randn(8, channels, size, size, generator=g))
    return model.eval()


@pytest.mark.parametrize("kind", KINDS)
def test_the_numbers_of_parameters_equal_the_tutorials(kind: Any) -> None:
    assert sum(p.numel() for p in kind().parameters()) == SIZES[kind]


class Weights:
    """A model's layers in the order of creation, for an implementation of the equations that uses them one by one."""

    def __init__(self, model: nn.Module, act: str):
        layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d | nn.Linear)]
        self.convs: Iterator[nn.Conv2d] = iter([m for m in layers if isinstance(m, nn.Conv2d)])
        self.norms: Iterator[nn.BatchNorm2d] = iter([m for m in layers if isinstance(m, nn.BatchNorm2d)])
        (self.last,) = [m for m in layers if isinstance(m, nn.Linear)]
        self.act = act

    def conv(self, x: Tensor, inputs: int, outputs: int, size: int, stride: int = 1, bias: bool = False) -> Tensor:
        layer = next(self.convs)
        assert layer.weight.shape == (outputs, inputs, size, size) and (layer.bias is not None) == bias
        return F.conv2d(x, layer.weight, layer.bias, stride, padding=(size - 1) // 2)

    def bn(self, x: Tensor) -> Tensor:
        n = next(self.norms)
        assert n.running_mean is not None and n.running_var is not None
        mean, var, scale, shift = (v[:, None, None] for v in (n.running_mean, n.running_var, n.weight, n.bias))
        return (x - mean) / (var + 1e-5).sqrt() * scale + shift

    def f(self, x: Tensor) -> Tensor:
        return {"relu": lambda z: z.clamp(min=0), "tanh": torch.tanh, "silu": lambda z: z * torch.sigmoid(z)}[self.act](
            x
        )

    def end(self, x: Tensor) -> Tensor:
        assert not list(self.convs) and not list(self.norms)
        return x.mean(dim=(2, 3)) @ self.last.weight.T + self.last.bias


def resnet(w: Weights, x: Tensor) -> Tensor:
    x, width = w.f(w.bn(w.conv(x, 3, 16, 3))), 16
    for group in (16, 32, 64):
        for block in range(3):
            stride = 2 if group != 16 and block == 0 else 1
            z = w.bn(w.conv(w.f(w.bn(w.conv(x, width, group, 3, stride))), group, group, 3))
            x = w.f(z + (w.conv(x, width, group, 1, 2, bias=True) if stride == 2 else x))
            width = group
    return w.end(x)


def preact_resnet(w: Weights, x: Tensor) -> Tensor:
    x, width = w.conv(x, 3, 16, 3), 16
    for group in (16, 32, 64):
        for block in range(3):
            stride = 2 if group != 16 and block == 0 else 1
            z = w.conv(w.f(w.bn(x)), width, group, 3, stride)
            z = w.conv(w.f(w.bn(z)), group, group, 3)
            x = z + (w.conv(w.f(w.bn(x)), width, group, 1, 2) if stride == 2 else x)
            width = group
    return w.end(x)


def densenet(w: Weights, x: Tensor) -> Tensor:
    x, width = w.conv(x, 3, 32, 3, bias=True), 32
    for block in range(4):
        for _ in range(6):
            z = w.conv(w.f(w.bn(x)), width, 32, 1)
            x = torch.cat((w.conv(w.f(w.bn(z)), 32, 16, 3), x), dim=1)
            width += 16
        x = w.f(w.bn(x))
        if block < 3:
            x = F.avg_pool2d(w.conv(x, width, width // 2, 1), 2)
            width //= 2
    return w.end(x)


TABLE = """64 32 16 16 32 8 8 | 64 32 16 24 48 12 12 | pool | 96 32 16 24 48 12 12 | 96 32 16 16 48 16 16
| 96 32 16 16 48 16 16 | 96 32 16 32 48 24 24 | pool | 128 48 16 32 64 16 16 | 128 48 16 32 64 16 16"""


def googlenet(w: Weights, x: Tensor) -> Tensor:
    def unit(x: Tensor, inputs: int, outputs: int, size: int) -> Tensor:
        return w.f(w.bn(w.conv(x, inputs, outputs, size, bias=True)))

    x = unit(x, 3, 64, 3)
    for row in TABLE.split("|"):
        if "pool" in row:
            x = F.max_pool2d(x, 3, 2, 1)
            continue
        n, r3, r5, o1, o3, o5, op = map(int, row.split())
        one, three, five = unit(x, n, o1, 1), unit(unit(x, n, r3, 1), r3, o3, 3), unit(unit(x, n, r5, 1), r5, o5, 5)
        x = torch.cat([one, three, five, unit(F.max_pool2d(x, 3, 1, 1), n, op, 1)], dim=1)
    return w.end(x)


@pytest.mark.parametrize("act", ["relu", "tanh", "silu"])
@pytest.mark.parametrize(
    ("kind", "equations"),
    [(ResNet, resnet), (PreActResNet, preact_resnet), (DenseNet, densenet), (GoogleNet, googlenet)],
)
def test_the_networks_equal_their_equations(kind: Any, equations: Any, act: str) -> None:
    torch.manual_seed(0)
    model = trained(kind(activation=act, mean=[0.1, -0.2, 0.3], std=[0.5, 0.4, 0.6]))
    x = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    normal = torch.stack([(x[:, 0] - 0.1) / 0.5, (x[:, 1] + 0.2) / 0.4, (x[:, 2] - 0.3) / 0.6], 1)
    with torch.no_grad():
        expected = equations(Weights(model, act), normal)
        assert expected.std() > 0.01
        assert torch.allclose(model(x), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("channels", "height", "width"), [(1, 28, 28), (1, 8, 8), (3, 12, 7), (1, 1, 1)])
def test_any_size_and_grey(kind: Any, channels: int, height: int, width: int) -> None:
    torch.manual_seed(0)
    model = kind(in_channels=channels, num_classes=7).eval()
    x = torch.randn(2, channels, height, width)
    features, logits = model.features(x), model(x)
    assert features.shape == (2, model.num_features) and logits.shape == (2, 7)
    assert torch.allclose(logits, model.out(features), atol=1e-6)
    assert torch.equal(logits, model(x, torch.tensor([3.0, 4.0])))  # the time is ignored
    assert isinstance(model, Classifier) and not model.timed


def test_the_u_net_classifier_has_features_too() -> None:
    torch.manual_seed(0)
    model = UNetClassifier(1, 8, channels=16, multipliers=(1, 2)).eval()
    for p in model.parameters():
        p.data += 0.1 * torch.randn_like(p)  # layers that start at zero would hide the layers before them
    x, c = torch.randn(3, 1, 8, 8), torch.tensor([0.0, 500.0, 999.0])
    assert model.timed and model.features(x, c).shape == (3, model.num_features) == (3, 32)
    assert torch.equal(model(x, c), model.out(model.features(x, c)))
    assert torch.equal(model(x), model(x, torch.zeros(3))) and not torch.allclose(model(x), model(x, c))


@pytest.mark.parametrize("kind", KINDS)
def test_sizes_are_options(kind: Any) -> None:
    small = kind(channels=8)
    assert sum(p.numel() for p in small.parameters()) < SIZES[kind]
    small(torch.randn(2, 3, 8, 8)).sum().backward()
    assert all(p.grad is not None for p in small.parameters())


def test_depth_and_growth_are_options() -> None:
    parameters = [sum(p.numel() for p in ResNet(blocks=n).parameters()) for n in (1, 2, 3)]
    block = 2 * 9 * (16**2 + 32**2 + 64**2) + 4 * (16 + 32 + 64)
    assert parameters[2] - parameters[1] == parameters[1] - parameters[0] == block
    assert DenseNet(blocks=(2, 3), growth=4, channels=8).num_features == (8 + 2 * 4) // 2 + 3 * 4
    assert ResNet(channels=8, multipliers=(1, 3)).num_features == 24


@pytest.mark.parametrize("activation", FUNCTIONS)
def test_initial_weights_are_scaled_for_the_activation(activation: Any) -> None:
    """std = gain / sqrt(fan), with the gain that preserves the mean square of standard normal numbers."""
    torch.manual_seed(0)
    measured = FUNCTIONS[activation](torch.randn(2_000_000, dtype=torch.float64)).square().mean() ** -0.5
    expected = 5 / 3 if activation == "tanh" else float(measured)  # for tanh, torch's customary value
    assert gain(activation) == pytest.approx(expected, rel=2e-3)
    for kind, fan in ((ResNet, "out"), (PreActResNet, "out"), (GoogleNet, "in"), (DenseNet, "in")):
        g = []
        for layer in kind(activation=activation).modules():
            if isinstance(layer, nn.Conv2d):
                outputs, inputs, height, width = layer.weight.shape
                size = height * width * (inputs if fan == "in" else outputs)
                g.append((layer.weight.detach() * math.sqrt(size)).flatten())
        assert float(torch.cat(g).std()) == pytest.approx(expected, rel=0.02)


def test_the_output_depends_on_the_activation() -> None:
    x = torch.randn(2, 3, 8, 8)
    for kind in KINDS:
        outputs = []
        for activation in FUNCTIONS:
            model = kind(channels=16, activation=activation).eval()
            model.load_state_dict(kind(channels=16).state_dict())  # the shapes do not depend on the activation
            torch.manual_seed(0)
            for p in model.parameters():
                p.data.normal_(0, 0.1)
            outputs.append(model(x))
        assert all(not torch.allclose(a, b) for i, a in enumerate(outputs) for b in outputs[:i])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": None}, "^num_classes: this dataset has no classes"),
        ({"num_classes": 0}, "^num_classes: "),
        ({"activation": "step"}, "^activation: must be one of relu, "),
        ({"channels": 0}, "^channels: "),
        ({"mean": [0.0]}, "^mean: must be one number for each of the 3 channels"),
        ({"std": [1.0, 1.0, 0.0]}, "^std: must be positive"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_wrong_options_are_named(kind: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**options)


@pytest.mark.parametrize(
    ("kind", "options"),
    [(ResNet, {"blocks": 0}), (ResNet, {"multipliers": ()}), (DenseNet, {"growth": 0}), (DenseNet, {"blocks": (6, 0)})],
)
def test_networks_without_layers_are_refused(kind: Any, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(options))}: must be at least 1"):
        kind(**options)


@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize("bias", [True, False])
def test_a_narrow_projection_is_the_strided_convolution(size: int, bias: bool) -> None:
    narrow = projection(4, 8, 2, bias)
    plain = nn.Conv2d(4, 8, 1, 2, bias=bias)
    assert isinstance(narrow, SkippingConv2d) and type(projection(8, 16, 2)) is nn.Conv2d
    plain.load_state_dict(narrow.state_dict())
    x = torch.randn(2, 4, size, size)
    torch.testing.assert_close(narrow(x), plain(x))
