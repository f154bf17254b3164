"""What a device computes natively, and what follows from it."""

import logging

import pytest
import torch

from ddpm_cli.hardware import formats, runtime
from ddpm_cli.hardware.formats import bf16_slowdown, cpu_features, held_back, native_bf16, native_formats
from ddpm_cli.hardware.runtime import choose_runtime
from ddpm_cli.training.muon import orthogonalized

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("features", "limit", "native"),
    [
        ({"avx2"}, "ALL", False),
        ({"avx2", "avx512_f"}, "ALL", False),
        ({"avx2", "avx512_f", "avx512_bf16"}, "ALL", True),
        ({"avx2", "avx512_f", "amx_bf16"}, "DEFAULT", True),
        ({"avx2", "avx512_f", "avx512_bf16"}, "AVX2", False),
        ({"avx2", "avx512_f", "avx512_bf16"}, "avx512_core", False),
        ({"avx2", "avx512_f", "avx512_bf16"}, "AVX512_CORE_BF16", True),
        ({"avx2", "avx512_f", "amx_bf16"}, "AVX512_CORE_AMX", True),
        ({"neon"}, "ALL", False),
    ],
)
def test_bf16_is_native_if_the_processor_and_onednn_have_it(
    features: set[str], limit: str, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(features, True), raising=False)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert native_bf16(CPU) == native
    assert native_formats(CPU) == ["fp32", "bf16"][: 1 + native]
    assert choose_runtime("cpu", "auto").precision == ("bf16" if native else "fp32")
    assert set(cpu_features()) == features


def test_the_fast_format_is_fast() -> None:
    """On the machine at hand, whatever it is: float32 is never chosen where bf16 is far faster, nor the reverse."""
    if native_bf16(CPU):
        assert bf16_slowdown(CPU) < 2
    elif held_back():
        assert bf16_slowdown(CPU) > 2


def test_emulated_bf16_is_named_with_its_price(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(runtime, "native_bf16", lambda device: False)
    monkeypatch.setattr(runtime, "bf16_slowdown", lambda device: 22.7)
    with caplog.at_level(logging.WARNING):
        assert choose_runtime("cpu", "bf16", precision_key="trainer.precision").precision == "bf16"
    assert "trainer.precision: this device only emulates bf16: a product takes 23 times as long" in caplog.text
    assert "use auto or fp32" in caplog.text
    caplog.clear()
    choose_runtime("cpu", "auto")
    choose_runtime("cpu", "fp32")
    assert not caplog.records


def test_muon_multiplies_in_a_native_format(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = torch.randn(48, 20, generator=torch.Generator().manual_seed(0))
    seen = set()
    product = torch.addmm

    def spy(*args: torch.Tensor, **options: float) -> torch.Tensor:
        seen.add(args[0].dtype)
        return product(*args, **options)

    monkeypatch.setattr(torch, "addmm", spy)
    results = []
    for native, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(formats, "native_bf16", lambda device, native=native: native)
        seen.clear()
        results.append(orthogonalized(matrix))
        assert seen == {dtype} and results[-1].dtype == torch.float32
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    for result in results:
        values = (u.mT @ result @ vh.mT).diagonal()
        assert values.min() > 0.6 and values.max() < 1.3
    assert 0 < (results[0] - results[1]).abs().max() < 0.05
