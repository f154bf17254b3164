"""The parts of ddpm bench: windows, measurements, FLOP counts, the bare loop."""

import os
import subprocess
import sys
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from omegaconf import OmegaConf
from torch import Tensor, nn

from ddpm_cli.bench.flops import training_flops
from ddpm_cli.bench.measurements import Measurement
from ddpm_cli.bench.options import ComposedOptions
from ddpm_cli.bench.sample import Benchmark
from ddpm_cli.bench.sample import Options as SampleOptions
from ddpm_cli.bench.sampling_workloads import SamplingSteps
from ddpm_cli.bench.setup import ENDLESS, TrainingSetup, endless, set_up
from ddpm_cli.bench.windows import Amount, Stopwatch, repeated
from ddpm_cli.bench.workloads import BareLoop, DiscardedRun, FixedRandom, MatrixProduct, SilentReporter, TrainingLoop
from ddpm_cli.build import bind, construct
from ddpm_cli.config.compose import compose_command
from ddpm_cli.config.launch import plain
from ddpm_cli.data.images import Batch
from ddpm_cli.hardware.runtime import Runtime, choose_runtime
from ddpm_cli.objectives.base import LabelledBatch, Loss, Random
from ddpm_cli.progress import silent
from ddpm_cli.runs.job import Job
from ddpm_cli.runs.loggers import TensorBoard
from ddpm_cli.training import loop

from ..conftest import TINY


def config(*overrides: str) -> dict[str, Any]:
    composed = compose_command("bench", ["what=train", "out=b", *TINY, *overrides])
    return plain(OmegaConf.masked_copy(composed, [str(k) for k in composed if k != "hydra"]))


def setup_of(*overrides: str) -> TrainingSetup:
    values = {k: v for k, v in config(*overrides).items() if k != "what"}
    return set_up(construct(ComposedOptions, bind(ComposedOptions, values)), values, silent)


class Squares:
    """An objective: the mean square of the outputs. With `tossing`, heads calls the module once more."""

    def __init__(self, tossing: bool = False):
        self.tossing = tossing

    def wrap(self, module: nn.Module, schedule: Any, autocast: torch.dtype | None = None) -> nn.Module:
        return module

    def __call__(self, model: nn.Module, batch: LabelledBatch, rng: Random) -> Loss:
        if self.tossing and rng.coin():
            with torch.no_grad():
                model(batch.x)
        value = model(batch.x).square().mean()
        return Loss(value, {"loss": value.detach()})


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(self.scale * x, x, x)


def batch_of(*shape: int) -> Batch:
    return Batch(torch.randn(4, *shape), torch.zeros(4, dtype=torch.int64))


def test_flops_of_convolutions_by_hand() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 5, 1))
    one, two = 2 * 8 * 3 * 3 * 3 * 36, 2 * 5 * 8 * 36  # 2 out in kernel^2 H W
    flops = training_flops(Squares(), model, batch_of(3, 6, 6))
    assert flops.forward == one + two
    assert flops.training == 2 * one + 3 * two  # the images need no gradient
    assert all(p.grad is None for p in model.parameters())


def test_flops_of_attention_by_hand() -> None:
    """Two products of N x N x d per head; torch does not count those in the special kernels of some devices."""
    flops = training_flops(Squares(), Attending(), batch_of(2, 16, 4))
    assert flops.forward == 2 * 2 * 2 * 16 * 16 * 4


def test_flops_that_depend_on_a_coin_are_the_mean() -> None:
    model = nn.Conv2d(1, 1, 1)
    once = training_flops(Squares(), model, batch_of(1, 4, 4))
    tossed = training_flops(Squares(tossing=True), model, batch_of(1, 4, 4))
    assert tossed.forward == once.forward * 1.5 and tossed.training == once.training + once.forward / 2


def test_a_window_ends_with_a_whole_step() -> None:
    steps: list[int] = []

    def step() -> Amount:
        steps.append(1)
        time.sleep(0.002)
        return Amount(3.0, 0.5)

    assert repeated(step)(0.0) == Amount(3.0, 0.5) and len(steps) == 1
    done = repeated(step)(0.05)
    assert done.amount == 3 * (len(steps) - 1) > 3 and done.waiting == 0.5 * (len(steps) - 1)


def test_workloads_take_turns() -> None:
    calls: list[tuple[str, float]] = []

    def workload(name: str) -> Any:
        return lambda seconds: calls.append((name, seconds)) or Amount(2.0)

    counted: list[int] = []
    clock = Stopwatch(30, 0.5, 0.25, lambda: counted.append(1))
    windows = clock.rounds({"a": workload("a"), "b": workload("b")}, lambda what, done, total: None)
    assert calls[:2] == [("a", 0.25), ("b", 0.25)]
    rounds = ["".join(name for name, _ in calls[i : i + 2]) for i in range(2, len(calls), 2)]
    assert set(rounds) == {"ab", "ba"} and 6 < rounds.count("ab") < 24  # each once a round, either first
    assert {seconds for _, seconds in calls[2:]} == {0.5} and {len(w) for w in windows.values()} == {30}
    assert len(counted) == 2 * len(calls)  # it waits for the device before and after
    assert windows["a"][0].rate == 2.0 / windows["a"][0].seconds


def test_measurements() -> None:
    measured = Measurement("x", "something", "share", [0.04, 0.01, 0.02, 0.03, 0.05], goal=0.03)
    assert measured.median == 0.03 and measured.spread == (0.02, 0.04)
    assert measured.row() == ["something", "3 %", "2 to 4", "at most 3 %: met"]
    assert Measurement("x", "a", "share", [0.04], 0.03).row() == ["a", "4 %", "", "at most 3 %: missed"]
    assert Measurement("x", "a", "FLOP/s", [2.5e11]).row()[1] == "250 GFLOP/s"
    assert Measurement("x", "a", "bytes", [3 * 2**20]).row()[1] == "3 MiB"
    assert Measurement("x", "a", "images/s", [1234.5, 1234.5]).row()[1:3] == ["1,234 images/s", "1,234 to 1,234"]
    assert Measurement("x", "a", "s", [1.0]).facts()["low"] is None


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_the_matrix_product_counts_its_flops(dtype: torch.dtype | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ddpm_cli.bench.workloads.SIDES", {"cpu": 64})
    product = MatrixProduct(Runtime(torch.device("cpu"), dtype))
    assert product() == Amount(2.0 * 64**3) and product.out.dtype == (dtype or torch.float32)
    expected = product.a.double() @ product.b.double()
    assert torch.allclose(product.out.double(), expected, atol=0.5 if dtype else 1e-3)


def test_peak_memory_grows() -> None:
    """In a new process, because this one may have had a higher peak before."""
    code = (
        "from ddpm_cli.bench.machine import peak_resident\n"
        "before = peak_resident()\n"
        "held = b'x' * 2**27\n"
        "del held\n"
        "print(peak_resident() - before)"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    result = subprocess.run([sys.executable, "-c", code], env=environment, text=True, capture_output=True, check=True)
    assert 0.9 * 2**27 < int(result.stdout) < 1.5 * 2**27


@pytest.mark.parametrize("micro", ["null", "3"])
def test_the_bare_loop_computes_the_same_as_a_training_step(micro: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the same state, batch and random numbers, both give the same weights and averages."""
    setup = setup_of(f"trainer.micro_batch_size={micro}", "trainer.grad_clip=0.01")
    bare = BareLoop(setup)
    bare.step = setup.state.step
    kept = deepcopy((setup.state.module, setup.state.ema, setup.state.optimizer.state_dict()))
    bare()
    assert setup.state.ema is not None
    ours = [p.clone() for p in (*setup.state.module.parameters(), *setup.state.ema.module.parameters())]

    module, ema, optimizer = kept
    assert ema is not None
    setup.state.module.load_state_dict(module.state_dict())
    setup.state.ema.module.load_state_dict(ema.module.state_dict())
    setup.state.optimizer.load_state_dict(optimizer)

    def fixed(seed: int, step: int, device: torch.device, total: int, rows: slice) -> FixedRandom:
        return FixedRandom(seed, step, bare.batch, rows, bare.drawn)

    monkeypatch.setattr(loop, "StepRandom", fixed)
    loop.update(setup.objective, setup.model, setup.state, bare.batch, setup.plan, setup.seed)
    theirs = [*setup.state.module.parameters(), *setup.state.ema.module.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(ours, module.parameters(), strict=False))


def test_the_training_loop_trains_logs_and_resets_the_learning_rate(tmp_path: Path) -> None:
    overrides = ("trainer.log_every=1", "trainer.warmup_steps=100", "trainer.max_seconds=0.001")
    setup, chosen = setup_of(*overrides), config(*overrides)
    with DiscardedRun(tmp_path / "place", SilentReporter(), {"tensorboard": TensorBoard()}) as place:
        place.log_only(chosen)
        session = TrainingLoop(setup, place)
        first = setup.state.step
        done = session(0.05)
        trained = setup.state.step - first
        session(0.0)
    assert done.amount == trained * 4 >= 4 and 0 < done.waiting < 1
    lines = (tmp_path / "place/metrics.jsonl").read_text().splitlines()
    assert len(lines) == setup.state.step - first
    assert any((tmp_path / "place/tensorboard").iterdir()) and not (tmp_path / "place/checkpoints").exists()
    # the second window multiplied the initial learning rate, not the one at the end of the first window
    expected = chosen["optimizer"]["lr"] * setup.state.step / 100
    assert setup.state.optimizer.param_groups[0]["lr"] == pytest.approx(expected)


def test_the_measured_plan_has_no_end() -> None:
    plan = endless(setup_of("trainer.steps=1", "trainer.epochs=1").plan)
    assert plan.length(10) == ENDLESS and plan.max_seconds is None
    assert not any(plan.due(every, 1000, 10) for every in (plan.save_every, plan.sample_every, plan.eval_every))


@pytest.mark.parametrize(("sampler", "calls"), [("ddim", 3), ("heun", 5)])
def test_network_calls_are_counted_as_they_are_made(sampler: str, calls: int) -> None:
    values = {k: v for k, v in config(f"sampler={sampler}", "sampler.steps=3").items() if k != "what"}
    options = construct(SampleOptions, bind(SampleOptions, values | {"batch_size": 2}))
    benchmark = Benchmark(options, Job(values, Path()))
    assert benchmark.task.calls == calls
    steps = SamplingSteps(benchmark.run, benchmark.request)
    assert sum(steps().amount for _ in range(3)) == calls * 2 and steps.calls == calls
    steps()  # the next batch begins
    assert steps.calls > calls


def test_the_runtime_follows_the_config() -> None:
    setup = setup_of("trainer.precision=bf16")
    assert setup.runtime == choose_runtime("cpu", "bf16") and "bf16" in setup.title()
    assert setup.state.step == 1 and setup.times.first_step > 0
