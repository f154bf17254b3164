"""The U-Net: the published size, the effect of its options, refused options."""

import pytest
import torch

from ddpm_cli.models.unet import UNet


def small(**options: object) -> UNet:
    torch.manual_seed(0)
    defaults = {
        "in_channels": 1,
        "image_size": 8,
        "channels": 16,
        "multipliers": (1, 2),
        "blocks": 1,
        "attention_resolutions": (4,),
    }
    return UNet(**(defaults | options))  # type: ignore[arg-type]


def nonzero(model: UNet) -> UNet:
    """The model with random weights in the layers that start at zero, which would hide the layers before them."""
    g = torch.Generator().manual_seed(1)
    for p in model.parameters():
        if not p.count_nonzero():
            p.data.normal_(0, 0.2, generator=g)
    return model.eval()


def inputs(model_channels: int = 1, size: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(2)
    return torch.randn(3, model_channels, size, size, generator=g), torch.tensor([0.0, 500.0, 999.0])


def test_the_cifar10_network_has_the_published_size() -> None:
    with torch.device("cpu"):
        assert sum(p.numel() for p in UNet().parameters()) == 35_746_307


def test_it_starts_as_zero_and_every_weight_gets_a_gradient() -> None:
    model = small()
    x, c = inputs()
    assert not model(x, c).any()  # the last layer starts at zero
    model = nonzero(small())
    model(x, c).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in model.parameters())


def test_the_output_depends_on_time_and_class() -> None:
    model = nonzero(small(class_conditional=True, num_classes=3, dropout=0.0))
    x, c = inputs()
    y = torch.tensor([0, 1, 2])
    assert not torch.allclose(model(x, c, y), model(x, c + 100, y), atol=1e-3)
    assert not torch.allclose(model(x, c, y), model(x, c, y.flip(0)), atol=1e-3)
    assert torch.allclose(model(x, c, torch.full((3,), -1)), model(x, c), atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"heads": 4},
        {"scale_shift_norm": True},
        {"patch_size": 2, "image_size": 16},
        {"blocks": 2},
        {"fine_channels": 4},
        {"norm_groups": 2},
    ],
)
def test_options_change_the_function(options: dict[str, object]) -> None:
    size = int(options.get("image_size", 8))  # type: ignore[call-overload]
    x, c = inputs(size=size)
    assert nonzero(small(**options))(x, c).shape == x.shape
    plain, changed = nonzero(small(image_size=size)), nonzero(small(**options))
    assert not torch.allclose(plain(x, c), changed(x, c), atol=1e-3)


def test_images_in_a_batch_are_independent() -> None:
    model = nonzero(small())
    x, c = inputs()
    assert torch.allclose(model(x, c)[1:2], model(x[1:2], c[1:2]), atol=1e-5)


def test_rectangles_and_channels_last() -> None:
    model = nonzero(small(image_size=(8, 12)))
    x, c = torch.randn(3, 1, 8, 12), inputs()[1]
    out = model(x, c)
    assert out.shape == x.shape
    last = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert torch.allclose(last(x.contiguous(memory_format=torch.channels_last), c), out, atol=1e-4)


def test_dropout_is_only_active_in_training() -> None:
    model = nonzero(small(dropout=0.5))
    x, c = inputs()
    assert torch.equal(model(x, c), model(x, c))
    model.train()
    assert not torch.equal(model(x, c), model(x, c))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 30}, r"image_size: 30 is not divisible by 8 .*set dataset.size to 24 or 32"),
        ({"heads": 3}, "heads: "),
        ({"dropout": 1.0}, "dropout: "),
        ({"multipliers": ()}, "multipliers: "),
        ({"channels": 0}, "channels: "),
        ({"class_conditional": True}, "class_conditional: "),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        UNet(**({"channels": 32} | options))  # type: ignore[arg-type]
