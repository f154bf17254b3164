"""How `auto` is resolved, that a run stores the choice, and what happens when the choice fails."""

import json
import logging
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ddpm_cli.data.images import Images
from ddpm_cli.errors import ConfigError, explain
from ddpm_cli.hardware import compiling, memory
from ddpm_cli.hardware.compiling import Compiled, break_even_seconds, estimated_seconds, resolve_mode
from ddpm_cli.hardware.memory import fits_by_estimate, halved
from ddpm_cli.hardware.options import CompileMode
from ddpm_cli.objectives.base import LabelledBatch, Loss, Random
from ddpm_cli.objectives.denoising import Denoising
from ddpm_cli.objectives.times import Importance
from ddpm_cli.training import auto, setup
from ddpm_cli.training.auto import Auto, fits_by_trying
from ddpm_cli.training.plan import Plan
from ddpm_cli.training.setup import recompute
from ddpm_cli.training.state import TrainState

from ..conftest import TINY, Cli
from .tiny import TinyTraining, unet

CPU = torch.device("cpu")
QUIET = [*TINY, "trainer.sample_every=0", "trainer.eval_every=0", "logger=none"]


@pytest.fixture
def compiling_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Costs with which compiling saves time on a CPU."""
    monkeypatch.setitem(compiling.COSTS, "cpu", compiling.CompileCost(1e11, 0.0, 0.8, 0.35, 20))


def test_nothing_is_compiled_on_a_cpu_unless_asked(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "missing_tool", lambda _: None)
    assert (
        resolve_mode("auto", CPU, lambda: True, "k") == "eager"
        and resolve_mode(True, CPU, lambda: False, "k") == "compiled"
    )
    assert cli("train", "run_dir=run", "trainer.steps=10000000", "trainer.max_seconds=1", *QUIET).code == 0
    (manifest, *_) = (tmp_path / "run/checkpoints").glob("*.json")
    assert json.loads(manifest.read_text())["chosen"]["compile"] == "eager"


def worth_compiling(**options: Any) -> bool:
    """Whether compiling is worth it for a run of the tiny network."""
    tiny = TinyTraining(Plan(**{"batch_size": 8, "compile": False, "precision": "fp32", **options}))
    return Auto(tiny.objective, tiny.model, tiny.state, tiny.plan, CPU, tiny.data).worth_compiling()


def test_only_long_runs_are_worth_compiling(compiling_pays: None) -> None:
    assert not worth_compiling(steps=1000)
    assert worth_compiling(steps=10**9)
    assert worth_compiling(steps=10**9, max_seconds=1e6) and not worth_compiling(steps=10**9, max_seconds=600)
    assert not worth_compiling(steps=10**9, epochs=1)


def test_a_larger_network_takes_longer_both_to_run_and_to_compile(compiling_pays: None) -> None:
    assert estimated_seconds(2e12, 10, 100, CPU) == 2 * estimated_seconds(1e12, 10, 100, CPU) > 0
    assert (
        break_even_seconds(200, CPU, True)
        == 2 * break_even_seconds(100, CPU, True)
        > break_even_seconds(100, CPU, False)
    )
    assert break_even_seconds(10, torch.device("mps"), True) == float("inf")


def test_how_each_compile_setting_is_resolved(
    compiling_pays: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(compiling, "missing_tool", lambda _: None)
    cuda, yes, no = torch.device("cuda"), lambda: True, lambda: False
    found = [resolve_mode(s, d, w, "k") for s in (False, True, "auto") for d in (CPU, cuda) for w in (yes, no)]  # type: ignore[arg-type]
    assert found == [*["eager"] * 4, *["compiled"] * 4, *["compiled", "eager"] * 2]
    assert resolve_mode("graphs", cuda, no, "k") == "graphs" and not caplog.messages
    assert resolve_mode("graphs", CPU, no, "k") == "compiled" and caplog.messages == [
        "k: CUDA graphs need a CUDA device; compiling without them"
    ]


@pytest.mark.parametrize(("setting", "level"), [(True, logging.WARNING), ("auto", logging.INFO)])
def test_without_a_compiler_there_is_one_line(
    compiling_pays: None, setting: Any, level: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setenv("CXX", "/nowhere/g++")
    assert resolve_mode(setting, CPU, lambda: True, "trainer.compile") == "eager"
    line = "trainer.compile: no C++ compiler found; the network runs uncompiled"
    assert [(r.levelno, r.message) for r in caplog.records] == [(level, line)]


def compiled_by(monkeypatch: pytest.MonkeyPatch, compile: Any, **options: Any) -> tuple[nn.Module, Compiled]:
    monkeypatch.setattr(torch, "compile", compile)
    module = nn.Linear(2, 2)
    call = Compiled(module, "compiled", **{"training": True, **options})
    module._compiled_call_impl = call
    return module, call


def test_a_network_that_cannot_be_compiled_runs_uncompiled(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        def call(*_: Any) -> None:
            raise RuntimeError("no such luck\nand a long story")

        return call

    failures: list[int] = []
    module, _ = compiled_by(monkeypatch, broken, key="compile", on_failure=lambda: failures.append(1))
    x = torch.ones(3, 2)
    expected = module.forward(x)
    assert torch.equal(module(x), expected) and torch.equal(module(x), expected)
    assert caplog.messages == ["compile: compiling failed (no such luck); continuing uncompiled"] and failures == [1]


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_what_compiles_is_shielded_and_its_failures_are_handled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal sends Ctrl-C to the C++ compiler, too. Torch would compile the backward call only as gradients are
    computed, and an error there would end the run."""
    from torch._functorch import config

    found: list[tuple[bool, bool]] = []

    def look(plain: Any, **_: Any) -> Any:
        def call(x: Tensor) -> Any:
            blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
            found.append((signal.SIGINT in blocked, config.force_non_lazy_backward_lowering))
            return plain(x)

        return call

    module, _ = compiled_by(monkeypatch, look)
    module(torch.ones(3, 2))
    module(torch.ones(3, 2))
    assert found == [(True, True), (False, False)]


def test_out_of_memory_is_not_a_failure_of_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> Any:
        def call(*_: Any) -> None:
            raise torch.OutOfMemoryError("full")

        return call

    module, call = compiled_by(monkeypatch, full)
    with pytest.raises(torch.OutOfMemoryError):
        module(torch.ones(3, 2))
    assert call.fast is not None


def test_only_batches_of_the_first_size_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short last batch, validation and a copy of the network do not compile again."""
    from copy import deepcopy

    sizes: list[int] = []

    def count(plain: Any, **options: Any) -> Any:
        assert options == {"dynamic": False}

        def call(x: Tensor) -> Any:
            sizes.append(len(x))
            return plain(x)

        return call

    module, _ = compiled_by(monkeypatch, count)
    for size in (4, 3, 4):
        assert module(torch.ones(size, 2)).shape == (size, 2)
    with torch.no_grad():
        module(torch.ones(4, 2))
    deepcopy(module)(torch.ones(4, 2))
    assert sizes == [4, 4]
    sampling, _ = compiled_by(monkeypatch, count, training=False, sizes=(8, 16))
    sizes.clear()
    with torch.inference_mode():
        for size in (16, 8, 5):
            sampling(torch.ones(size, 2))
    assert sizes == [16, 8]


def chosen(run: Path, step: int) -> dict[str, Any]:
    manifest = json.loads((run / f"checkpoints/step_{step:08d}.json").read_text())
    settings: dict[str, Any] = manifest["chosen"]
    return settings


def test_a_resumed_run_keeps_its_compile_mode(
    compiling_pays: None, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even when `auto` would decide differently on resuming, for example with more steps."""
    modes: list[CompileMode] = []
    monkeypatch.setattr(setup, "compile_call", lambda module, mode, *_, **__: modes.append(mode))
    monkeypatch.setattr(compiling, "missing_tool", lambda _: None)
    for first in (True, False):
        monkeypatch.setattr(Auto, "worth_compiling", lambda _, first=first: first)
        assert cli("train", f"run_dir=run{first}", "trainer.steps=1", *QUIET).code == 0
        monkeypatch.setattr(Auto, "worth_compiling", lambda _, first=first: not first)
        assert cli("train", f"run_dir=run{first}", "trainer.steps=2", *QUIET).code == 0
        assert chosen(tmp_path / f"run{first}", 2)["compile"] == ("compiled" if first else "eager")
    assert modes == ["compiled", "compiled", "eager", "eager"]


def test_a_size_is_halved_until_it_fits() -> None:
    tried: list[int] = []

    def fits(part: int) -> bool:
        tried.append(part)
        return part <= 20

    assert halved(100, fits) == 13 and tried == [100, 50, 25, 13]
    assert halved(64, lambda _: True) == 64 and halved(64, lambda _: False) == 1


class OutOfMemoryAbove:
    """An objective that runs out of memory with more than `most` images."""

    def __init__(self, most: int):
        self.most = most

    def __call__(self, model: nn.Module, batch: LabelledBatch, rng: Random) -> Loss:
        if len(batch.x) > self.most:
            raise torch.OutOfMemoryError("full")
        return Loss(model(batch.x).square().mean(), {})


def test_trying_a_batch_size_changes_nothing() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    state = TrainState(module, torch.optim.Adam(module.parameters()), None)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    fits = fits_by_trying(OutOfMemoryAbove(5), module, state, 16, (1, 2, 2))  # type: ignore[arg-type]
    assert halved(16, fits) == 4
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert all(p.grad is None for p in module.parameters()) and not state.optimizer.state


def test_trying_a_batch_size_keeps_the_state_of_the_objective() -> None:
    objective = Denoising(unet_target(), times=Importance(bins=4))
    tiny = TinyTraining(Plan(batch_size=8, compile=False, precision="fp32"), None, objective)
    tiny.steps(3)
    assert isinstance(tiny.state.times, Importance)
    before = [b.clone() for b in tiny.state.times.buffers()]
    assert fits_by_trying(objective, tiny.model, tiny.state, 8, (1, 8, 8))(8)
    assert all(map(torch.equal, before, tiny.state.times.buffers())) and before[1].sum() > 0


def unet_target() -> Any:
    from ddpm_cli.diffusion.target import V

    return V()


def test_an_estimate_counts_images_and_weights() -> None:
    fits = fits_by_estimate(per_image=100, weights=1000, total=10_000)
    assert fits(30) and not fits(31)  # 100 n + 5 x 1000 <= 8000


def test_counting_the_cost_is_exact_and_changes_nothing() -> None:
    """A convolution: 2 x 9 operations for each of 64 pixels forward, and as many backward for its weights."""

    def mean(model: nn.Module, batch: LabelledBatch, rng: Random) -> Loss:
        return Loss(model(batch.x).mean(), {})

    module = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, bias=False), nn.BatchNorm2d(1))
    state = TrainState(module, torch.optim.Adam(module.parameters()), None)
    data = Images(torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64), ())
    cost = Auto(mean, module, state, Plan(), CPU, data).cost()  # type: ignore[arg-type]
    assert cost is not None and cost.flops == 2 * (2 * 9 * 64)
    assert 2 * 64 * 4 <= cost.bytes < 3 * 64 * 4  # the images and the output of the convolution
    norm = module[1]
    assert isinstance(norm, nn.BatchNorm2d) and norm.num_batches_tracked == 0 and module[0].weight.grad is None


def test_the_chosen_micro_batch_size_is_stored(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = [*QUIET, "trainer.micro_batch_size=auto"]
    monkeypatch.setattr(auto, "fits_by_estimate", lambda *_: lambda part: part <= 2)
    assert cli("train", "run_dir=run", "trainer.steps=1", *arguments).code == 0
    monkeypatch.setattr(auto, "fits_by_estimate", lambda *_: lambda part: True)
    assert cli("train", "run_dir=run", "trainer.steps=2", *arguments).code == 0
    assert chosen(tmp_path / "run", 1)["micro_batch_size"] == chosen(tmp_path / "run", 2)["micro_batch_size"] == 2
    assert cli("train", "run_dir=all", "trainer.steps=1", *arguments).code == 0
    assert chosen(tmp_path / "all", 1)["micro_batch_size"] == 4  # the whole batch


def test_host_memory_is_that_of_the_machine_or_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = memory.host_memory()
    limit = tmp_path / "memory.max"
    limit.write_text("max\n")
    monkeypatch.setattr(memory, "LIMITS", (str(limit),))
    machine = memory.host_memory()
    if whole is not None:
        assert machine is not None and whole <= machine
    limit.write_text("1234\n")
    assert memory.host_memory() == 1234


@pytest.mark.parametrize(
    "more",
    [["trainer.gradient_checkpointing=true", "model.dropout=0.3"], ["trainer.micro_batch_size=auto"],
     ["trainer.autotune=true"], ["trainer.micro_batch_size=3", "times=importance"]],
    ids=lambda more: more[0],
)  # fmt: skip
def test_four_steps_equal_two_steps_and_two_resumed_steps(more: list[str], cli: Cli, tmp_path: Path) -> None:
    for run, stops in (("whole", [4]), ("parts", [2, 4])):
        for steps in stops:
            result = cli("train", f"run_dir={run}", f"trainer.steps={steps}", *QUIET, *more)
            assert result.code == 0, result.err
    name = "checkpoints/step_00000004.safetensors"
    assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()


def test_gradient_checkpointing_can_be_turned_on_when_resuming(cli: Cli, tmp_path: Path) -> None:
    """It changes memory and time, but no number."""
    assert cli("train", "run_dir=whole", "trainer.steps=2", *QUIET).code == 0
    assert cli("train", "run_dir=parts", "trainer.steps=1", *QUIET).code == 0
    again = cli("train", "run_dir=parts", "trainer.steps=2", "trainer.gradient_checkpointing=true", *QUIET)
    assert again.code == 0 and "changed settings" not in again.err
    name = "checkpoints/step_00000002.safetensors"
    assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()


def test_gradient_checkpointing_is_refused_by_a_model_without_it() -> None:
    with pytest.raises(ConfigError, match="^trainer.gradient_checkpointing: "):
        recompute(nn.Conv2d(1, 1, 1))
    module = unet()
    recompute(module)
    assert sum(getattr(m, "recompute", False) for m in module.modules()) == 8


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("MPS backend out of memory (MPS allocated: 5.5 GB, max allowed: 6.8 GB)."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:116] data. DefaultCPUAllocator: not enough memory: you tried to"),
    ],
    ids=["cuda", "mps", "windows"],
)
def test_out_of_memory_names_the_keys_that_help(error: RuntimeError) -> None:
    message, code = explain(error)
    assert code == 7 and message.startswith("memory: ")
    assert "trainer.micro_batch_size=auto" in message and "trainer.gradient_checkpointing=true" in message
