"""The fast variants of a training step give the results of the plain one."""

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


def largest_difference(a: list[float], b: list[float]) -> float:
    """The largest relative difference."""
    return max(abs(x - y) / x for x, y in zip(a, b, strict=True))


@pytest.fixture(scope="module")
def plain() -> list[float]:
    return losses()


def test_the_plain_network_learns_and_is_reproducible(plain: list[float]) -> None:
    assert sum(plain[-10:]) < 0.9 * sum(plain[:10]) and largest_difference(plain, losses()) == 0


def test_micro_batches_add_up_to_the_batch(plain: list[float]) -> None:
    assert 0 < largest_difference(plain, losses(micro_batch_size=3)) < 1e-3


def test_bf16_is_close_to_fp32(plain: list[float]) -> None:
    assert 1e-5 < largest_difference(plain, losses(precision="bf16")) < 0.1


def test_the_memory_layout_does_not_matter(plain: list[float]) -> None:
    made = TinyTraining(Plan(**EXACT, compile=False))  # type: ignore[arg-type]
    assert made.state.module.conv_in.weight.is_contiguous(memory_format=torch.channels_last)  # type: ignore[operator, union-attr]
    for parameter in made.state.parameters:
        parameter.data = parameter.data.contiguous()
    assert largest_difference(plain, made.steps(50)) < 1e-3


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")  # warnings from the compiler itself
def test_compiled_equals_plain_up_to_rounding(plain: list[float]) -> None:
    made = TinyTraining(Plan(**EXACT, compile=True))  # type: ignore[arg-type]
    found = made.steps(50)
    assert made.state.chosen["compile"] == "compiled" and made.state.module._compiled_call_impl.done == {8}
    assert 0 < largest_difference(plain, found) < 1e-3


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
    if dropout:  # and the dropout mask was repeated
        assert not all(map(torch.equal, one, gradients(unet())))


def test_recomputing_saves_memory() -> None:
    from torch.autograd.graph import saved_tensors_hooks

    def saved_bytes(recomputing: bool) -> int:
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

    assert saved_bytes(True) < 0.7 * saved_bytes(False)
