"""The faster layers compute the same as torch's."""

import shutil

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from ddpm_cli.models.kernels import DoublingConv2d, Dropout, GroupNorm, attention, doubled

bf16 = torch.bfloat16


def relative_error(a: Tensor, b: Tensor) -> float:
    return ((a.detach().float() - b.detach().float()).norm() / b.detach().float().norm()).item()


def batch(channels: int, size: int, dtype: torch.dtype = bf16, mean: float = 3.0) -> Tensor:
    x = torch.randn(4, channels, size, size, generator=torch.Generator().manual_seed(0)) + mean
    return x.to(dtype).to(memory_format=torch.channels_last)


def gradients(norm: nn.GroupNorm, x: Tensor) -> list[Tensor]:
    x = x.detach().requires_grad_()
    upstream = torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).to(x.dtype)
    out = norm(x)
    return [out, *torch.autograd.grad(out, (x, norm.weight, norm.bias), upstream.contiguous())]


@pytest.mark.parametrize("mean", [0.0, 3.0, 30.0])
@pytest.mark.parametrize("size", [1, 6, 32])  # from 32 x 32 on, the forward pass is torch's
@pytest.mark.parametrize("groups", [1, 2, 8])
def test_group_norm_and_its_gradients_equal_those_in_float32(groups: int, size: int, mean: float) -> None:
    ours, theirs = GroupNorm(groups, 8), nn.GroupNorm(groups, 8)
    for module in (ours, theirs):
        torch.manual_seed(2)
        nn.init.normal_(module.weight)
        nn.init.normal_(module.bias)
    if size == 1 and groups == 8:  # a single number is its own mean: only the bias remains
        assert torch.equal(ours(batch(8, 1)), theirs(batch(8, 1)))
        return
    x = batch(8, size, mean=mean)
    for a, b in zip(gradients(ours, x), gradients(theirs, x.float()), strict=True):
        assert a.shape == b.shape and relative_error(a, b) < 0.012


@pytest.mark.parametrize("mean", [0.0, 0.3, 1.0])
def test_group_norm_sums_gradients_of_one_sign_without_bias(mean: float) -> None:
    """Rounding errors of x - mean in bf16 to the same side would add up over the positions."""
    norm = GroupNorm(2, 8)
    x = torch.randn(1, 8, 128, 128, generator=torch.Generator().manual_seed(0)) + mean
    x = x.to(bf16).to(memory_format=torch.channels_last)
    upstream = torch.ones_like(x)
    norm(x).backward(upstream)
    groups = x.double().reshape(2, 4, -1)
    centred = groups - groups.mean((1, 2), keepdim=True)
    exact = (centred / groups.std((1, 2), correction=0, keepdim=True)).sum(2).view(8)
    assert norm.weight.grad is not None and relative_error(norm.weight.grad, exact) < 0.01


def test_group_norm_uses_the_own_kernel_only_where_it_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, ...]] = []
    real = torch.native_group_norm
    monkeypatch.setattr(torch, "native_group_norm", lambda *a: calls.append(a[0].shape) or real(*a))
    narrow, wide = GroupNorm(8, 32), GroupNorm(2, 32)
    narrow(batch(32, 4, torch.float32))
    narrow(batch(32, 4).contiguous())
    narrow(batch(32, 4)[:, :, 0])
    wide(batch(32, 4))
    assert not calls
    out = narrow(batch(32, 4))
    assert calls and out.dtype == bf16 and out.is_contiguous(memory_format=torch.channels_last)
    assert narrow.state_dict().keys() == nn.GroupNorm(8, 32).state_dict().keys()


@pytest.mark.parametrize("shape", [(64, 32, 16, 16), (64, 33, 7, 9), (5, 3)])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.97])
def test_dropout_drops_the_right_fraction_and_scales_the_rest(p: float, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x = torch.ones(shape, dtype=bf16)
    if len(shape) == 4:
        x = x.to(memory_format=torch.channels_last)
    x.requires_grad_()
    out = Dropout(p)(x)
    kept = out != 0
    n = out.numel()
    assert abs(float(kept.float().mean()) - (1 - p)) <= 5 * (p * (1 - p) / n) ** 0.5
    assert out.stride() == x.stride() and out.dtype == bf16
    assert torch.equal(out[kept], torch.full_like(out[kept], 1 / (1 - p)))
    (gradient,) = torch.autograd.grad(out.sum(), x)
    assert torch.equal(gradient, out)


def test_dropout_is_independent_between_elements() -> None:
    torch.manual_seed(0)
    kept = (Dropout(0.5)(torch.ones(400_000, dtype=bf16)) != 0).float() - 0.5
    for lag in (1, 2, 3, 4, 8):  # four elements share a random word
        assert abs(float((kept[lag:] * kept[:-lag]).mean())) < 0.25 * 5 / 400_000**0.5


def test_dropout_is_seeded_and_inactive_in_evaluation() -> None:
    x, layer = torch.ones(1000, dtype=bf16), Dropout(0.3)
    torch.manual_seed(7)
    first, second = layer(x), layer(x)
    torch.manual_seed(7)
    assert torch.equal(layer(x), first) and not torch.equal(first, second)
    assert torch.equal(layer.eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x) and not Dropout(1.0)(x).any()


@pytest.mark.parametrize("length", [1, 16, 256, 300])
@pytest.mark.parametrize("dtype", [bf16, torch.float32])
def test_attention_equals_torchs(length: int, dtype: torch.dtype) -> None:
    g = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 2, 4, length, 8, generator=g).to(dtype).requires_grad_()
    out, real = attention(q, k, v), F.scaled_dot_product_attention(q.float(), k.float(), v.float())
    limit = 0.015 if dtype == bf16 else 1e-5
    assert out.dtype == dtype and relative_error(out, real) < limit
    upstream = torch.randn(out.shape, generator=g)
    ours = torch.autograd.grad(out, (q, k, v), upstream.to(dtype))
    theirs = torch.autograd.grad(real, (q, k, v), upstream)
    if length > 1:  # with one position the weight is 1, whatever q and k are
        assert all(relative_error(a, b) < limit for a, b in zip(ours, theirs, strict=True))


def test_attention_without_gradients_keeps_float32_scores() -> None:
    g = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 1, 64, 16, generator=g) * 3 for _ in range(3))
    exact = F.scaled_dot_product_attention(*(z.to(bf16).double() for z in (q, k, v)))
    with torch.no_grad():
        out = attention(*(z.to(bf16) for z in (q, k, v)))
    assert relative_error(out, exact) < 0.004 < relative_error(attention(*(z.to(bf16) for z in (q, k, v))), exact)


@pytest.mark.parametrize("size", [1, 2, 5, 8])  # from 2 x 2 on it is a transposed convolution
@pytest.mark.parametrize("dtype", [bf16, torch.float32])
def test_doubling_equals_nearest_neighbour_and_a_convolution(size: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layer = DoublingConv2d(16)
    nn.init.normal_(layer.bias)
    x = torch.randn(3, 16, size, size + 1).to(memory_format=torch.channels_last).requires_grad_()
    with torch.autocast("cpu", bf16, enabled=dtype == bf16):
        out = layer(x)
    real = F.conv2d(F.interpolate(x, scale_factor=2.0, mode="nearest"), layer.weight, layer.bias, padding=1)
    limit = 0.01 if dtype == bf16 else 1e-5
    assert out.shape == real.shape and out.dtype == dtype and relative_error(out, real) < limit
    upstream, variables = torch.randn(out.shape), (x, layer.weight, layer.bias)
    ours = torch.autograd.grad(out, variables, upstream.to(dtype))
    theirs = torch.autograd.grad(real, variables, upstream)
    assert all(a.shape == b.shape and relative_error(a, b) < limit for a, b in zip(ours, theirs, strict=True))


def test_doubling_for_compiled_code_equals_nearest_neighbour() -> None:
    x = torch.randn(3, 4, 5, 6).to(memory_format=torch.channels_last).requires_grad_()
    ours, theirs = doubled(x), F.interpolate(x, scale_factor=2.0, mode="nearest")
    assert torch.equal(ours, theirs)
    upstream = torch.randn(ours.shape)
    gradients = (torch.autograd.grad(out, x, upstream)[0] for out in (ours, theirs))
    assert relative_error(*gradients) < 1e-6


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")  # warnings of the compiler
def test_compiled_dropout_drops_the_same_elements_in_the_backward_pass() -> None:
    x = torch.ones(2, 8, 4, 4).requires_grad_()
    out = torch.compile(Dropout(0.25))(x)
    (gradient,) = torch.autograd.grad(out.sum(), x)
    assert torch.equal(gradient, out) and bool((out == 0).any())
