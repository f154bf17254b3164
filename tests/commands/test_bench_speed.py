"""ddpm bench what=train, sample, data and startup: values exist and are possible and consistent. No test of speed."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from ddpm_cli.bench import startup
from ddpm_cli.config.shipped import conf_dir

from ..conftest import TINY, Cli

SHORT = ["windows=3", "seconds=0.02", "warmup=0", "out=b"]


def bench(cli: Cli, tmp_path: Path, *arguments: str) -> dict[str, Any]:
    """bench.json; checks that nothing else was written: no run directory, no link to a newest run."""
    before = {p.name for p in tmp_path.iterdir()}
    result = cli("bench", *arguments, "out=b")
    assert result.code == 0, result.err
    assert "bench.json" in result.out
    found = json.loads((tmp_path / "b/bench.json").read_text())
    assert {p.name for p in (tmp_path / "b").iterdir()} == {"bench.json"}
    assert {p.name for p in tmp_path.iterdir()} == before | {"b"}
    for name, figure in found["figures"].items():
        assert all(math.isfinite(v) for v in figure["values"]), name
        if figure["low"] is not None:
            assert figure["low"] <= figure["median"] <= figure["high"], name
    assert found["machine"]["versions"]["torch"] and found["machine"]["processor"]
    return found


def test_training(cli: Cli, tmp_path: Path) -> None:
    found = bench(cli, tmp_path, "what=train", *SHORT, *TINY, "trainer.log_every=1")
    f = found["figures"]
    assert found["config"]["model"]["channels"] == 8 and found["protocol"]["weights"] == "random"
    assert found["machine"]["precision"] == "fp32" and found["machine"]["compile"] is False
    for name in ("training", "steps", "bare", "overhead", "step_overhead", "waiting", "achieved"):
        assert len(f[name]["values"]) == 3, name
    ratios = [b / t - 1 for b, t in zip(f["bare"]["values"], f["training"]["values"], strict=True)]
    assert f["overhead"]["values"] == pytest.approx(ratios)
    ratios = [b / t - 1 for b, t in zip(f["bare"]["values"], f["steps"]["values"], strict=True)]
    assert f["step_overhead"]["values"] == pytest.approx(ratios)
    assert all(0 < v < 1 for v in f["waiting"]["values"])
    assert f["achieved"]["median"] == pytest.approx(f["training"]["median"] * f["flops"]["median"])
    assert f["share_of_peak"]["median"] == pytest.approx(f["achieved"]["median"] / f["peak"]["median"])
    # the gradient of a product is two products, except for the first layer, whose input needs no gradient
    assert 2.5 < f["flops"]["median"] / f["flops_forward"]["median"] <= 3
    assert f["memory"]["median"] > 50e6
    assert f["to_first_step"]["median"] >= f["load"]["median"] + f["first_step"]["median"]


@pytest.mark.parametrize("model", ["vae", "resnet", "unet_classifier"])
def test_training_of_other_objectives(model: str, cli: Cli, tmp_path: Path) -> None:
    found = bench(cli, tmp_path, "what=train", f"model={model}", "trainer.batch_size=4", *SHORT, "windows=1")
    f = found["figures"]
    assert f["training"]["median"] > 0 and f["flops"]["median"] > f["flops_forward"]["median"] > 0


def test_an_experiment_composes_as_for_training(cli: Cli) -> None:
    result = cli("bench", "what=train", "experiment=ddpm_cifar10", "trainer.batch_size=2", "--cfg", "job")
    assert result.code == 0, result.err
    config = yaml.safe_load(result.out)
    trained = yaml.safe_load(cli("train", "experiment=ddpm_cifar10", "trainer.batch_size=2", "--cfg", "job").out)
    assert config["dataset"]["name"] == "cifar10" and config["sampler"]["variance"] == "beta"
    assert {k: config[k] for k in ("model", "optimizer", "trainer", "schedule", "sampler", "dataset")} == {
        k: trained[k] for k in ("model", "optimizer", "trainer", "schedule", "sampler", "dataset")
    }


def test_the_groups_equal_those_of_training() -> None:
    def groups(file: str) -> list[tuple[str, Any]]:
        entries = yaml.safe_load((conf_dir() / file).read_text(encoding="utf-8"))["defaults"]
        return [(k.lstrip("/"), v) for e in entries if isinstance(e, dict) for k, v in e.items() if " " not in k]

    assert groups("what/train.yaml") == groups("train.yaml")


def test_help_explains_the_keys_of_the_benchmark(cli: Cli) -> None:
    out = cli("bench", "what=train", "--help").out
    assert "measurements of each kind" in out and "trainer.batch_size" in out
    assert "trainer.batch_size" not in cli("bench", "--help").out


def test_data(cli: Cli, tmp_path: Path) -> None:
    found = bench(cli, tmp_path, "what=data", *SHORT, *TINY)
    f = found["figures"]
    assert f["alone"]["median"] > f["training"]["median"] > 0  # a step takes longer than its batch
    assert all(0 < v < 1 for v in f["waiting"]["values"]) and f["waiting"]["goal"] == 0.02


def test_sampling(cli: Cli, tmp_path: Path) -> None:
    found = bench(
        cli, tmp_path, "what=sample", "batch_size=3", "sampler=heun", "sampler.steps=4", *SHORT, *TINY
    )  # fmt: skip
    f = found["figures"]
    assert found["protocol"]["calls_per_image"] == 7 and found["protocol"]["weights"] == "random"
    assert f["sampling"]["values"] == pytest.approx([v / 7 for v in f["calls"]["values"]])
    ratios = [n / c - 1 for n, c in zip(f["network"]["values"], f["calls"]["values"], strict=True)]
    assert f["overhead"]["values"] == pytest.approx(ratios)
    assert f["flops"]["median"] == pytest.approx(7 * f["flops_call"]["median"])
    assert f["share_of_peak"]["median"] == pytest.approx(f["achieved"]["median"] / f["peak"]["median"])
    assert f["memory"]["median"] > 0


def test_sampling_of_a_run(cli: Cli, tmp_path: Path) -> None:
    assert cli("train", "run_dir=run", "trainer.steps=1", "sampler.steps=2", *TINY).code == 0
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    found = bench(cli, tmp_path, "what=sample", "ckpt=run", "batch_size=2", "sampler.steps=2", *SHORT)
    assert found["protocol"]["weights"] == "run" and found["figures"]["sampling"]["median"] > 0
    assert {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()} == before


def test_startup(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = [s for s in startup.CASES if s.name != "first_step"]
    monkeypatch.setattr(startup, "CASES", quick)
    found = bench(cli, tmp_path, "what=startup", "windows=1")
    assert set(found["figures"]) == {s.name for s in quick}
    assert all(figure["median"] > 0 for figure in found["figures"].values())
    assert all(seconds[0] > 0 for seconds in found["protocol"]["processor_seconds"].values())


def test_a_command_that_fails_is_an_error(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "CASES", [startup.StartupCase("wrong", "ddpm trian", 1.0, ["trian"])])
    result = cli("bench", "what=startup", "windows=1", "out=b")
    assert result.code == 1 and "ddpm trian: exit code 2 instead of 0" in result.err
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["what=train", "windows=0"], "windows: must be at least 1"),
        (["what=train", "windows=few"], "windows: must be a whole number"),
        (["what=data", "seconds=0"], "seconds: must be positive"),
        (["what=sample", "warmup=-1"], "warmup: must be at least 0"),
        (["what=sample", "batch_size=0"], "batch_size: must be positive"),
        (["what=sample", "sampler.steps=2000"], "sampler.steps: must be between 1 and the schedule"),
        (["what=sample", "model=vae"], "model: is not sampled step by step"),
        (["what=train", "model=gmm"], "objective: EM takes no gradient steps"),
        (["what=train", "schedule=flow"], "objective: v needs"),
        (["what=train", "seed=-1"], "seed: must be at least 0"),
        (["what=startup", "windows=0"], "windows: must be positive"),
        (["what=train", "trainer.batch_sise=2"], "did you mean 'trainer.batch_size'"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_mistakes(arguments: list[str], says: str, cli: Cli, tmp_path: Path) -> None:
    result = cli("bench", *arguments, "out=b")
    assert result.code == 2 and says in result.err, result.err
    assert len(result.err.splitlines()) == 1 and not (tmp_path / "b").exists()
