"""The batch size of `ddpm sample`, and whether the network is compiled."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ddpm_cli.diffusion.samplers import Frame
from ddpm_cli.hardware import compiling
from ddpm_cli.sampling import batching
from ddpm_cli.sampling.batching import Batching
from ddpm_cli.sampling.generator import Generator, load_generator
from ddpm_cli.sampling.task import Task

from ..conftest import TINY, Cli

TRAIN = ["train", "run_dir=run", "trainer.steps=1", "trainer.sample_every=0", "logger=none", *TINY]


def drawn(folder: Path) -> tuple[np.ndarray, dict[str, Any]]:
    with np.load(folder / "samples.npz") as file:
        return file["arr_0"].astype(int), json.loads((folder / "sample.json").read_text())


def test_images_do_not_depend_on_the_batch_size(cli: Cli, tmp_path: Path) -> None:
    assert cli(*TRAIN).code == 0
    for name, size in (("auto", "auto"), ("three", "3")):
        result = cli("sample", "ckpt=run", "n=7", f"batch_size={size}", "sampler.steps=3", f"out={name}")
        assert result.code == 0, result.err
    (one, facts), (two, others) = drawn(tmp_path / "auto"), drawn(tmp_path / "three")
    assert abs(one - two).max() <= 1 and one.std() > 10
    assert (facts["batch_size"], facts["network_calls"], facts["compile"]) == (7, 3, "eager")
    assert (others["batch_size"], others["network_calls"]) == (3, 9)
    refused = cli("sample", "ckpt=run", "batch_size=0")
    assert refused.code == 2 and refused.err.startswith("ddpm: error: batch_size: must be positive")


def loaded(cli: Cli) -> Generator:
    assert cli(*TRAIN).code == 0
    return load_generator("run", "ema", "cpu", "fp32", [])


def batching_of(run: Generator, n: int, calls: int, requested: Any) -> Batching:
    return Batching(run.run, run.network_call, n, calls, requested)


def test_auto_is_smaller_when_memory_is_short(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    model = loaded(cli)
    assert batching_of(model, 1000, 50, "auto").batch_size == 64 and batching_of(model, 9, 50, "auto").batch_size == 9
    assert batching_of(model, 1000, 50, 300).batch_size == 300
    monkeypatch.setattr(batching, "host_memory", lambda: 1_000_000)
    assert 1 <= batching_of(model, 1000, 50, "auto").batch_size < 64


def test_only_many_images_are_worth_compiling(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    model = loaded(cli)
    requested: list[tuple[Any, ...]] = []
    monkeypatch.setattr(compiling, "missing_tool", lambda _: None)
    monkeypatch.setitem(compiling.COSTS, "cpu", compiling.CompileCost(1e11, 0.0, 0.8, 0.35, 20))  # as if it saved time
    monkeypatch.setattr(
        batching, "compile_call", lambda module, mode, training, **k: requested.append((mode, training, k))
    )
    modes = [batching_of(model, n, 50, "auto").compile("auto") for n in (64, 10**8)]
    assert modes == ["eager", "compiled"]
    assert requested[1] == ("compiled", False, {"sizes": (64, 128), "key": "compile"})
    assert (
        batching_of(model, 4, 50, "auto").compile(True) == "compiled"
        and batching_of(model, 4, 50, 2).compile(False) == "eager"
    )


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("full"), RuntimeError("MPS backend out of memory (MPS ...")])
def test_a_batch_that_does_not_fit_is_drawn_in_halves(error: RuntimeError) -> None:
    tried: list[int] = []

    def frames(rows: Sequence[int]) -> Iterator[Frame]:
        tried.append(len(rows))
        x = torch.tensor([float(i) for i in rows]).view(-1, 1, 1, 1)
        yield Frame(1.0, x, x)
        if len(rows) > 3:
            raise error
        yield Frame(0.0, x, x)

    done: list[int] = []
    task = Task(frames, range(10), None, 1, 1)
    images = torch.cat([part for _, part in task.batches(8, done.append, shrink=True)])
    assert images.flatten().tolist() == list(range(10)) and tried == [8, 4, 2, 2, 2, 2, 2] and sum(done) == 10
    with pytest.raises(type(error)):
        list(task.batches(8, done.append))
