"""The fast ways through a step give what the plain one gives."""

import shutil
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ddpm_cli.training.plan import Plan
from ddpm_cli.training.setup import recompute

from .tiny import TinyTraining, unet

EXACT = {"precision": "fp32", "batch_size": 8}


def losses(steps: int = 50, module: nn.Module | None = None, **options: Any) -> list[float]:
    return TinyTraining(Plan(**{**EXACT, "compile": False, **options}), module).steps(steps)  # type: ignore[arg-type]


def worst(a: list[float], b: list[float]) -> float:
    """The largest relative difference."""
    return max(abs(x - y) / x for x, y in zip(a, b, strict=True))


@pytest.fixture(scope="module")
def plain() -> list[float]:
    return losses()


def test_the_losses_are_of_a_network_that_learns(plain: list[float]) -> None:
    assert sum(plain[-10:]) < 0.9 * sum(plain[:10]) and worst(plain, losses()) == 0


def test_parts_of_a_batch_add_up(plain: list[float]) -> None:
    assert 0 < worst(plain, losses(micro_batch_size=3)) < 1e-3


def test_bf16_is_near(plain: list[float]) -> None:
    assert 1e-5 < worst(plain, losses(precision="bf16")) < 0.1


def test_the_memory_layout_does_not_matter(plain: list[float]) -> None:
    made = TinyTraining(Plan(**EXACT, compile=False))  # type: ignore[arg-type]
    assert made.state.module.conv_in.weight.is_contiguous(memory_format=torch.channels_last)  # type: ignore[operator, union-attr]
    for parameter in made.state.parameters:
        parameter.data = parameter.data.contiguous()
    assert worst(plain, made.steps(50)) < 1e-3


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")  # of the compiler's own code
def test_compiled_is_plain_but_for_rounding(plain: list[float]) -> None:
    made = TinyTraining(Plan(**EXACT, compile=True))  # type: ignore[arg-type]
    found = made.steps(50)
    assert made.state.chosen["compile"] == "compiled" and made.state.module._compiled_call_impl.done == {8}
    assert 0 < worst(plain, found) < 1e-3


def gradients(module: nn.Module) -> list[Tensor]:
    made = TinyTraining(Plan(**EXACT, compile=False, grad_clip=None), module)  # type: ignore[arg-type]
    kept: list[Tensor] = []

    def keep(*_: Any) -> None:
        kept.extend(p.grad.clone() for p in made.state.parameters if p.grad is not None)

    made.state.optimizer.register_step_pre_hook(keep)
    made.steps(3)
    return kept


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_recomputing_gives_the_same_gradients_bit_for_bit(dropout: float) -> None:
    cheap = unet(dropout=dropout)
    recompute(cheap)
    one, two = gradients(unet(dropout=dropout)), gradients(cheap)
    assert len(one) > 100 and all(map(torch.equal, one, two))
    assert any(g.abs().max() > 1e-4 for g in two)
    if dropout:  # and it is dropout that was repeated
        assert not all(map(torch.equal, one, gradients(unet())))


def test_recomputing_remembers_less() -> None:
    from torch.autograd.graph import saved_tensors_hooks

    def remembered(recomputing: bool) -> int:
        module, sizes = unet(), dict[int, int]()
        if recomputing:
            recompute(module)

        def pack(tensor: Tensor) -> Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with saved_tensors_hooks(pack, lambda tensor: tensor):
            kept = module(torch.randn(16, 1, 8, 8), torch.rand(16))
        assert kept.requires_grad
        return sum(sizes.values())

    assert remembered(True) < 0.7 * remembered(False)
