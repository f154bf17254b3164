"""The autoencoders: shapes, numbers of parameters, the tutorial's equations, refused options."""

import pytest
import torch

from ddpm_cli.models.vae import VAE
from ddpm_cli.models.vae_conv import ConvVAE


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def test_vae_has_the_sizes_of_the_tutorial() -> None:
    model = VAE(prior="normal")
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    assert shapes["conv1.weight"] == (20, 1, 3, 3) and shapes["conv2.weight"] == (20, 20, 3, 3)
    assert shapes["hidden.weight"] == (800, 11520)
    assert shapes["mean.weight"] == shapes["log_var.weight"] == (100, 800)
    assert shapes["unfold.weight"] == (2000, 100) and shapes["pixels.weight"] == (784, 2000)
    layers = [(9, 20), (180, 20), (11520, 800), (800, 100), (800, 100), (100, 2000), (2000, 784)]
    assert sum(p.numel() for p in model.parameters()) == sum((i + 1) * o for i, o in layers)


def test_vae_equals_the_tutorials_equations() -> None:
    """Compared with an independent implementation on grey levels in [0, 1]."""
    torch.manual_seed(0)
    model, v = VAE(prior="normal"), torch.rand(3, 1, 28, 28)
    p = dict(model.named_parameters())
    h = v
    for name in ("conv1", "conv2"):
        h = torch.conv2d(h, p[f"{name}.weight"], p[f"{name}.bias"]).relu()
    h = (h.reshape(3, 11520) @ p["hidden.weight"].T + p["hidden.bias"]).relu()
    mean, log_var = model.encode(2 * v - 1)
    assert mean.allclose(h @ p["mean.weight"].T + p["mean.bias"], atol=1e-5)
    assert log_var.allclose(h @ p["log_var.weight"].T + p["log_var.bias"], atol=1e-5)
    z = torch.randn(3, 100)
    out = (z @ p["unfold.weight"].T + p["unfold.bias"]).relu() @ p["pixels.weight"].T + p["pixels.bias"]
    assert model.decode(z).allclose(out.view(3, 1, 28, 28), atol=1e-5)


@pytest.mark.parametrize("size", [28, 33, (7, 12), 1])
@pytest.mark.parametrize("channels", [1, 3])
def test_conv_vae_takes_any_size(size: int | tuple[int, int], channels: int) -> None:
    torch.manual_seed(0)
    model = ConvVAE(channels, size, channels=8, multipliers=(1, 2), latent=5)
    x = torch.rand(2, *model.shape)
    mean, log_var = model.encode(x)
    assert mean.shape == log_var.shape == (2, 5) and model.decode(mean).shape == x.shape
    assert not model.decode(mean)[0].equal(model.decode(mean + 1)[0])


def test_every_weight_of_conv_vae_gets_a_gradient() -> None:
    torch.manual_seed(0)
    model = ConvVAE(1, 9, channels=8, multipliers=(1, 2), latent=5)
    for parameter in model.parameters():  # the last convolution of a block starts at 0, which blocks gradients
        torch.nn.init.normal_(parameter, std=0.1)
    mean, log_var = model.encode(torch.rand(4, 1, 9, 9))
    (model.decode(mean + log_var) * torch.rand(4, 1, 9, 9)).sum().backward()
    assert model.level is not None
    missing = [
        n for n, p in model.named_parameters() if p is not model.level and not (p.grad is not None and p.grad.any())
    ]
    assert not missing


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (VAE, {"image_size": 4}, "image_size: must be at least 5"),
        (VAE, {"latent": 0}, "latent: must be"),
        (VAE, {"decoder_width": 0}, "decoder_width: must be"),
        (ConvVAE, {"multipliers": ()}, "multipliers: must be"),
        (ConvVAE, {"blocks": -1}, "blocks: must be"),
        (ConvVAE, {"prior_components": 0}, "prior_components: must be"),
    ],
)
def test_wrong_options_are_named(kind: type[VAE | ConvVAE], options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**options)  # type: ignore[arg-type]
