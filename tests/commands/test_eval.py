"""ddpm eval metrics=[bpd] of a run on digits."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ddpm_cli.config.launch import launch

from ..conftest import TINY, Cli

QUIET = ["trainer.sample_every=0", "trainer.eval_every=0", "logger=none", "trainer.steps=6", "optimizer.lr=0.01"]
QUICK = ["bpd.steps=20", "bpd.ode_steps=2"]
PARTS = ("prior", "denoising", "reconstruction")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", list(sys.argv))
        assert launch("train", ["run_dir=run", *TINY, *QUIET]) == 0
    return folder / "run"


@pytest.fixture
def run(trained: Path) -> str:
    return f"ckpt={trained}"


def evaluated(cli: Cli, folder: Path, *arguments: str) -> dict[str, Any]:
    result = cli("eval", f"out={folder}", "metrics=[bpd]", *QUICK, *arguments)
    assert result.code == 0, result.err
    found: dict[str, Any] = json.loads((folder / "eval.json").read_text())
    return found


def means(facts: dict[str, Any]) -> dict[str, float]:
    return {name: figure["mean"] for name, figure in facts["bits_per_dim"].items()}


def test_the_files_and_the_figures(run: str, trained: Path, cli: Cli, tmp_path: Path) -> None:
    facts = evaluated(cli, tmp_path / "e", run, "n=20", "batch_size=8", "seed=3")
    assert sorted(p.name for p in (tmp_path / "e").iterdir()) == ["bound.png", "eval.json"]
    figures = means(facts)
    assert set(figures) == {"bound", *PARTS, "ode"}
    assert all(math.isfinite(v) for v in figures.values())
    assert figures["bound"] == pytest.approx(sum(figures[name] for name in PARTS), rel=1e-6)
    assert 2 < figures["ode"] < 20 and 2 < figures["bound"] < 40
    assert all(figure["error"] > 0 for figure in facts["bits_per_dim"].values())
    per_time = facts["per_time"]
    assert len(per_time["t"]) == len(per_time["bits"]) == 20 and per_time["t"][0] == 1
    assert per_time["bits"][-1] == pytest.approx(figures["reconstruction"], rel=1e-6)
    assert sum(per_time["bits"][:-1]) == pytest.approx(figures["denoising"], rel=1e-6)
    manifest = json.loads((trained / "checkpoints/step_00000006.json").read_text())
    protocol = facts["protocol"]
    assert protocol["checkpoint_sha256"] == manifest["sha256"]
    assert (protocol["n"], protocol["split"], protocol["seed"], protocol["precision"]) == (20, "val", 3, "fp32")
    bpd = protocol["bpd"]
    assert (bpd["steps"], bpd["terms"], bpd["variance"], bpd["network_calls"]) == (20, 20, "beta", 3 * (20 + 8))
    with Image.open(tmp_path / "e/bound.png") as picture:
        assert picture.width > 600 and len(picture.convert("L").getcolors() or []) > 10


def test_a_seed_gives_the_same_numbers_in_any_batch(run: str, cli: Cli, tmp_path: Path) -> None:
    quick = ["n=10", "bpd.terms=5"]
    a = evaluated(cli, tmp_path / "a", run, *quick)
    again = evaluated(cli, tmp_path / "a", run, *quick)  # a new evaluation replaces the old one
    batches = evaluated(cli, tmp_path / "b", run, "batch_size=4", *quick)
    other = evaluated(cli, tmp_path / "c", run, "seed=1", *quick)
    assert again["bits_per_dim"] == a["bits_per_dim"]
    assert means(batches) == pytest.approx(means(a), rel=1e-4)
    assert means(other)["bound"] != pytest.approx(means(a)["bound"], rel=1e-4)
    assert a["protocol"]["bpd"]["terms"] == 5


def test_n_may_exceed_the_number_of_images_and_split_may_be_train(run: str, cli: Cli, tmp_path: Path) -> None:
    quick = ["bpd.steps=2", "bpd.terms=2", "bpd.ode_steps=0", "batch_size=100"]
    many = evaluated(cli, tmp_path / "a", run, "n=5000", *quick)
    every = evaluated(cli, tmp_path / "b", run, "n=null", *quick)
    assert many["protocol"]["n"] == every["protocol"]["n"] < 250
    assert many["bits_per_dim"] == every["bits_per_dim"] and "ode" not in many["bits_per_dim"]
    assert evaluated(cli, tmp_path / "c", run, "n=300", "split=train", *quick)["protocol"]["n"] == 300
    one = evaluated(cli, tmp_path / "d", run, "n=1", *quick)
    assert one["bits_per_dim"]["bound"]["error"] is None


def test_lower_precision_roughly_agrees(run: str, cli: Cli, tmp_path: Path) -> None:
    full = evaluated(cli, tmp_path / "a", run, "n=16")
    half = evaluated(cli, tmp_path / "b", run, "n=16", "precision=bf16")
    assert half["protocol"]["precision"] == "bf16"
    assert means(half) == pytest.approx(means(full), rel=0.05, abs=1e-6)
    assert means(half) != means(full)


def test_probes_estimate_the_exact_divergence(run: str, cli: Cli, tmp_path: Path) -> None:
    exact = evaluated(cli, tmp_path / "a", run, "n=2", "bpd.probes=0", "bpd.ode_steps=1", "bpd.steps=2")
    probed = evaluated(cli, tmp_path / "b", run, "n=2", "bpd.probes=20", "bpd.ode_steps=1", "bpd.steps=2")
    assert means(probed)["ode"] == pytest.approx(means(exact)["ode"], rel=0.05)


@pytest.mark.parametrize(
    "train",
    [
        ["objective=flow", "model.self_condition=true"],
        ["objective=edm", "model.class_conditional=false"],
        ["objective=epsilon", "objective.learned_variance=true", "sampler=ddpm", "sampler.variance=learned"],
    ],
    ids=lambda a: a[0],
)
def test_other_models(train: list[str], cli: Cli, tmp_path: Path) -> None:
    assert cli("train", "run_dir=run", *TINY, *QUIET, *train).code == 0
    facts = evaluated(cli, tmp_path / "e", "ckpt=run", "n=4", "bpd.steps=10")
    assert all(math.isfinite(v) for v in means(facts).values())
    bpd, twice = facts["protocol"]["bpd"], 2 if "model.self_condition=true" in train else 1
    assert bpd["variance"] == ("learned" if "objective.learned_variance=true" in train else "beta")
    assert bpd["network_calls"] == twice * (10 + 8)


def test_labels_are_passed_to_the_model(run: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ddpm_cli.sampling import diffusion_bits

    seen: list[Any] = []

    class Recording(diffusion_bits.Unguided):
        def __call__(self, model: Any, labels: Any) -> Any:
            seen.append(labels)
            return super().__call__(model, labels)

    monkeypatch.setattr(diffusion_bits, "Unguided", Recording)
    evaluated(cli, tmp_path / "e", run, "n=30", "bpd.steps=2", "bpd.ode_steps=0")
    assert len(seen) == 1 and len(set(seen[0].tolist())) > 3


def test_wrong_options_are_a_one_line_error(run: str, cli: Cli, tmp_path: Path) -> None:
    wrong = [
        (["metrics=[fidd]"], "metrics: there is no 'fidd'; did you mean 'fd'?"),
        (["metrics=[]"], "metrics: is empty; choose from fd, "),
        (["bpd.variance=learned"], "bpd.variance: this model has no learned variance"),
        (["bpd.variance=gamma"], "bpd.variance: must be"),
        (["bpd.terms=21"], "bpd.terms: must be null or between 2 and 20"),
        (["bpd.steps=5000"], "bpd.steps: must be between 1 and"),
        (["bpd.ode_steps=-1"], "bpd.ode_steps: must be at least 0"),
        (["n=0"], "n: must be positive"),
        (["split=dev"], "split: must be"),
        (["seed=-1"], "seed: must be at least 0"),
    ]
    for arguments, message in wrong:
        result = cli("eval", run, "out=e", *QUICK, *arguments)
        assert result.code == 2 and message in result.err, (arguments, result.err)
        assert len(result.err.splitlines()) == 1 and not (tmp_path / "e").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("x")
    refused = cli("eval", run, "out=mine", *QUICK)
    assert refused.code == 2 and "has other files" in refused.err
