"""Preparing a network for inference."""

import pytest
import torch
from torch import nn

from ddpm_cli.hardware.runtime import Runtime
from ddpm_cli.models.unet import UNet
from ddpm_cli.models.unet_annotated import UNetAnnotated
from ddpm_cli.models.unet_tutorial import UNetTutorial

BF16 = Runtime(torch.device("cpu"), torch.bfloat16)


def networks() -> list[nn.Module]:
    torch.manual_seed(0)
    return [
        UNet(1, 8, 16, (1, 2), 1, (4,), num_classes=3, class_conditional=True),
        UNetAnnotated(in_channels=1, image_size=8, channels=16, multipliers=(1, 2), attention=(False, True)),
        UNetTutorial(in_channels=1, image_size=28),
    ]


@pytest.mark.parametrize("index", [0, 1, 2])
def test_casting_once_gives_the_same_numbers_as_casting_in_every_call(index: int) -> None:
    module = networks()[index]
    g = torch.Generator().manual_seed(1)
    for p in module.parameters():
        p.data.add_(torch.randn(p.shape, generator=g), alpha=0.05)
    size = 28 if index == 2 else 8
    x, c = torch.randn(2, 1, size, size, generator=g), torch.tensor([3.0, 700.0])
    module = BF16.prepare(module).eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        before = module(x, c, None)
        frozen = BF16.freeze(module)
        after = frozen(x, c, None)
    assert torch.equal(before, after) and bool(before.any())
    kinds = {p.dtype for p in frozen.parameters()}
    assert kinds == {torch.bfloat16, torch.float32} and not any(p.requires_grad for p in frozen.parameters())


def test_weights_are_cast_only_in_bf16_and_in_networks_of_this_package() -> None:
    full = Runtime(torch.device("cpu"), None).freeze(networks()[0])
    other = BF16.freeze(nn.Sequential(nn.Linear(2, 2)))
    assert {p.dtype for m in (full, other) for p in m.parameters()} == {torch.float32}
