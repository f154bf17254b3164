"""Autoencoders and Gaussian mixtures on the command line, with real digits."""

import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from sklearn.mixture import GaussianMixture

from ddpm_cli.config.launch import launch
from ddpm_cli.models.mixture import Mixture
from ddpm_cli.runs.directory import RunDirectory
from ddpm_cli.training import prior as latent
from ddpm_cli.training.randomness import seed_of

from ..conftest import Cli

SIZES = {
    "vae": ["model.channels=4", "model.encoder_width=32", "model.decoder_width=32"],
    "vae_conv": ["model.channels=8", "model.multipliers=[1,2]"],
}
SMALL = ["model.latent=4", "model.prior_components=3", "trainer.batch_size=32", "trainer.samples=8", "logger=none"]
VAE = ["model=vae", *SIZES["vae"], *SMALL]
GMM = ["model=gmm", "model.components=4", "model.dimensions=12", "trainer.samples=6", "logger=none"]


@pytest.fixture(scope="module", autouse=True)
def few_draws() -> Iterator[None]:
    """Fit the prior to fewer samples of z: the latent space has only 4 dimensions here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latent, "DRAWS", 500)
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, few_draws: None) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", list(sys.argv))
        assert launch("train", ["run_dir=vae", *VAE, "trainer.steps=60", "trainer.eval_every=60"]) == 0
        assert launch("train", ["run_dir=plain", *VAE, "trainer.steps=2", "model.prior=normal"]) == 0
        assert launch("train", ["run_dir=gmm", *GMM, "trainer.steps=4"]) == 0
    return folder


def rows(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def images(folder: Path) -> np.ndarray:
    return np.load(folder / "samples.npz")["arr_0"].astype(int)


def facts(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "sample.json").read_text())
    return found


def test_an_autoencoder_trains_and_writes_its_pictures(runs: Path) -> None:
    run = runs / "vae"
    logged = [row for row in rows(run) if "loss" in row]
    assert {"reconstruction", "kl", "grad_norm", "lr"} <= logged[0].keys()
    assert logged[0]["loss"] == pytest.approx(logged[0]["reconstruction"] + logged[0]["kl"], rel=1e-5)
    assert {"val_loss", "val_reconstruction", "val_kl"} <= rows(run)[-1].keys()
    assert rows(run)[-1]["val_loss"] < 45  # a model that has learned nothing has 64 ln 2 = 44.4
    pairs = Image.open(run / "samples/step_00000060.png")
    assert pairs.size[1] > 4 * 8 * 4  # two rows of images, two of reconstructions, and a caption
    above = np.asarray(pairs.convert("L"))[:24]
    assert above.min() < 100 < 200 < above.max()
    assert Image.open(run / "samples/latent_map.png").size[0] > 600


def test_the_prior_is_fitted_when_training_ends(runs: Path) -> None:
    tensors = load_file(runs / "vae/checkpoints/step_00000060.safetensors")
    for part in ("model", "ema"):
        assert float(tensors[f"{part}.mixture.weights"].sum()) == pytest.approx(1, abs=1e-5)
    assert not tensors["model.mixture.means"].equal(tensors["ema.mixture.means"])
    plain = load_file(runs / "plain/checkpoints/step_00000002.safetensors")
    assert not any("mixture" in name for name in plain)


def test_a_mixture_logs_and_saves_every_iteration(runs: Path) -> None:
    run = runs / "gmm"
    logged = [row for row in rows(run) if "log_likelihood" in row]
    assert [row["step"] for row in logged] == [1, 2, 3, 4]
    values = [row["log_likelihood"] for row in logged]
    assert values == sorted(values) and values[0] < values[-1]
    assert all(row["loss"] == -row["log_likelihood"] for row in logged)
    bits = -(values[-1] / 64 + np.log(2 / 255)) / np.log(2)
    assert logged[-1]["bits_per_dim"] == pytest.approx(bits, rel=1e-9)
    assert 6 < rows(run)[-1]["val_bits_per_dim"] < 8
    assert [p.name for p in (run / "samples").iterdir()] == ["step_00000004.png"]
    assert (run / "checkpoints/step_00000003.json").is_file() and (run / "config.json").is_file()


@pytest.mark.parametrize("model", ["vae", "vae_conv", "gmm"])
def test_four_steps_equal_two_steps_and_two_resumed_steps(model: str, cli: Cli, tmp_path: Path) -> None:
    arguments = GMM if model == "gmm" else [f"model={model}", *SIZES[model], *SMALL]
    for run_dir, stops in (("whole", (4,)), ("halves", (2, 4))):
        for steps in stops:
            result = cli("train", f"run_dir={run_dir}", *arguments, f"trainer.steps={steps}")
            assert result.code == 0, result.err
    file = "checkpoints/step_00000004.safetensors"
    whole, halves = (load_file(tmp_path / run / file) for run in ("whole", "halves"))
    assert whole.keys() == halves.keys() and all(whole[k].equal(halves[k]) for k in whole)
    assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "halves" / file).read_bytes()
    if model == "gmm":
        a, b = ([row.get("log_likelihood") for row in rows(tmp_path / run)] for run in ("whole", "halves"))
        assert [v for v in a if v is not None] == [v for v in b if v is not None]


def test_a_finished_run_is_reported_and_left_alone(runs: Path, cli: Cli) -> None:
    for name, arguments, steps in (("vae", [*VAE, "trainer.eval_every=60"], 60), ("gmm", GMM, 4)):
        before = {p: p.stat().st_mtime_ns for p in (runs / name).rglob("*") if p.name != ".lock"}
        again = cli("train", f"run_dir={runs / name}", *arguments, f"trainer.steps={steps}")
        assert again.code == 0 and "already finished" in again.out and "raise the limit (trainer.steps" in again.out
        assert before == {p: p.stat().st_mtime_ns for p in (runs / name).rglob("*") if p.name != ".lock"}


def test_em_stops_on_a_signal_and_resumes(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = RunDirectory.metrics

    def signalled(run: RunDirectory, step: int, row: Mapping[str, Any]) -> None:
        write(run, step, row)
        if step == 1:
            signal.raise_signal(signal.SIGTERM)  # as `kill` does, in the middle of an iteration

    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "metrics", signalled)
        stopped = cli("train", "run_dir=run", *GMM, "trainer.steps=3")
    assert stopped.code == 143 and "stopped and saved at step" in stopped.err
    assert rows(tmp_path / "run")[-1]["step"] < 3
    assert cli("train", "run_dir=run", *GMM, "trainer.steps=3").code == 0
    assert [row["step"] for row in rows(tmp_path / "run") if "log_likelihood" in row] == [1, 2, 3]


def test_em_that_converged_stays_finished(cli: Cli, tmp_path: Path) -> None:
    arguments = ["run_dir=run", *GMM, "objective.tol=100", "trainer.steps=30"]
    assert cli("train", *arguments).code == 0
    assert rows(tmp_path / "run")[-1]["step"] == 2
    again = cli("train", *arguments, "trainer.steps=50")
    assert again.code == 0 and "already finished (step 2); EM has converged" in again.out


def test_a_prior_that_was_not_fitted_is_fitted_on_resuming(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the process dies between the last step and the fit, the run is not finished."""
    from ddpm_cli.training.autoencoder import AutoencoderSession

    with monkeypatch.context() as patch:
        patch.setattr(AutoencoderSession, "complete", lambda *_: (_ for _ in ()).throw(OSError("killed")))
        assert cli("train", "run_dir=run", *VAE, "trainer.steps=2").code != 0
    refused = cli("sample", "ckpt=run", "prior=gmm", "out=s")
    assert refused.code == 2 and "finish training, then name the run directory" in refused.err
    assert cli("sample", "ckpt=run", "out=s", "n=2").code == 0 and facts(tmp_path / "s")["task"]["prior"] == "normal"
    assert cli("train", "run_dir=run", *VAE, "trainer.steps=2").code == 0
    assert cli("sample", "ckpt=run", "out=s", "n=2").code == 0 and facts(tmp_path / "s")["task"]["prior"] == "gmm"
    assert "already finished" in cli("train", "run_dir=run", *VAE, "trainer.steps=2").out


def test_samples_of_an_autoencoder(runs: Path, cli: Cli, tmp_path: Path) -> None:
    common = [f"ckpt={runs / 'vae'}", "precision=fp32"]
    calls = {"a": ["n=6"], "b": ["n=6", "batch_size=4"], "c": ["n=1", "seed=4"], "d": ["n=6", "prior=normal"]}
    calls |= {"e": ["n=6", "weights=raw"], "f": ["n=6", "pixel_noise=true"]}
    for name, arguments in calls.items():
        result = cli("sample", *common, f"out={name}", *arguments)
        assert result.code == 0, result.err
    a, b, c, d, e, f = (images(tmp_path / name) for name in "abcdef")
    assert a.shape == (6, 8, 8, 1)
    assert np.abs(a - b).max() <= 1 and np.abs(a[4:5] - c).max() <= 1
    assert min(np.abs(a - x).max() for x in (d, e, f)) > 1
    of_a = facts(tmp_path / "a")
    assert (of_a["task"]["prior"], of_a["network_calls"], of_a["sampler"], of_a["guidance"]) == ("gmm", 1, None, None)
    assert facts(tmp_path / "b")["network_calls"] == 2 and of_a["seeds"] == list(range(6))
    assert facts(tmp_path / "d")["task"]["prior"] == "normal" and facts(tmp_path / "e")["weights"] == "raw"
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["grid.png", "images", "sample.json", "samples.npz"]


def test_samples_of_a_mixture(runs: Path, cli: Cli, tmp_path: Path) -> None:
    for name, arguments in {"a": ["n=6"], "b": ["n=2", "seed=3"], "c": ["n=6", "pixel_noise=true"]}.items():
        result = cli("sample", f"ckpt={runs / 'gmm'}", f"out={name}", *arguments)
        assert result.code == 0, result.err
    a, b, c = (images(tmp_path / name) for name in "abc")
    assert np.array_equal(a[3:5], b) and not np.array_equal(a[0], a[1])
    assert 1 < np.abs(a - c).mean() < 60 and facts(tmp_path / "a")["network_calls"] == 0


def test_between_two_seeds_and_between_two_pictures(runs: Path, cli: Cli, tmp_path: Path) -> None:
    ckpt = f"ckpt={runs / 'vae'}"
    for seed, name in ((3, "one"), (17, "other")):
        assert cli("sample", ckpt, "n=1", f"seed={seed}", f"out={name}", "precision=fp32").code == 0
    assert cli("sample", ckpt, "between=[3,17]", "n=5", "out=between", "precision=fp32").code == 0
    between_seeds = images(tmp_path / "between")
    assert np.abs(between_seeds[:1] - images(tmp_path / "one")).max() <= 1
    assert np.abs(between_seeds[-1:] - images(tmp_path / "other")).max() <= 1
    assert np.abs(between_seeds[2] - between_seeds[0]).max() > 1 and facts(tmp_path / "between")["seeds"] is None
    ends = [str(tmp_path / f"{name}/images/000000.png") for name in ("one", "other")]
    result = cli("sample", ckpt, f"between=[{','.join(ends)}]", "n=3", "out=pictures")
    assert result.code == 0, result.err
    assert (tmp_path / "pictures/input.png").is_file() and (tmp_path / "pictures/input_other.png").is_file()
    for between, pixels in (("[3,17]", 4), (f"[{','.join(ends)}]", 1)):
        result = cli("gif", ckpt, "kind=interpolate", f"between={between}", "n=4", "frames=6", f"out=g{pixels}")
        assert result.code == 0, result.err
    many, one = (Image.open(tmp_path / f"g{k}/interpolate.gif") for k in (4, 1))
    assert many.n_frames == one.n_frames == 6 and many.size[1] > one.size[1]


@pytest.mark.parametrize(
    ("command", "run", "arguments", "message"),
    [
        ("gif", "vae", [], "kind: denoise is not available for an autoencoder; use kind=interpolate between=[3,17]"),
        ("gif", "gmm", [], "kind: denoise is not available for a Gaussian mixture; use ddpm sample"),
        ("gif", "vae", ["kind=forward"], "kind: forward is not available for"),
        ("gif", "gmm", ["kind=interpolate", "between=[3,17]"], "kind: interpolate is not available for"),
        ("sample", "gmm", ["between=[3,17]"], "between: a Gaussian mixture cannot interpolate"),
        ("sample", "gmm", ["prior=gmm"], "prior: only for autoencoders"),
        ("sample", "plain", ["prior=gmm"], "prior: no mixture has been fitted to the latents of this run; train with"),
        ("sample", "vae", ["guidance=cfg"], "guidance: only for diffusion models"),
        ("sample", "vae", ["label=3"], "label: this model is not class-conditional"),
        ("sample", "vae", ["init=a.png"], "init: only for diffusion models"),
        ("sample", "vae", ["between=[a.png,b.png]", "strength=0.5"], "strength: only for diffusion models"),
        ("sample", "vae", ["between=[1,2]", "n=1"], "n: an interpolation needs at least 2 images"),
    ],
)
def test_unsupported_options(command: str, run: str, arguments: list[str], message: str, runs: Path, cli: Cli) -> None:
    result = cli(command, f"ckpt={runs / run}", "out=s", *arguments)
    assert result.code == 2 and f"ddpm: error: {message}" in result.err and result.err.count("\n") == 1
    assert not Path("s").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model=vae", "objective=v"], "objective: this model cannot denoise; use objective=elbo"),
        (["model=gmm", "objective=v"], "objective: this model cannot denoise; use objective=em"),
        (["model=unet_tiny", "objective=elbo"], "objective: elbo needs an autoencoder"),
        (["model=unet_tiny", "objective=em"], "objective: em needs a Gaussian mixture"),
        (["model=gmm", "trainer.epochs=3"], "trainer.epochs: EM uses all images in each step"),
        (
            ["model=gmm", "model.dimensions=65"],
            "model.dimensions: must be between 1 and the 64 pixel values of an image",
        ),
        (["model=vae", "objective.beta=-1"], "objective.beta: must be at least 0"),
    ],
)
def test_incompatible_choices(arguments: list[str], message: str, cli: Cli, tmp_path: Path) -> None:
    result = cli("train", "run_dir=run", *arguments)
    assert result.code == 2 and message in result.err and result.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_bits(runs: Path, cli: Cli, tmp_path: Path) -> None:
    found = {}
    for name, arguments in {
        "vae": ["bpd.importance_samples=8"],
        "gmm": [],
        "plain": ["batch_size=7", "bpd.importance_samples=2"],
        "again": ["bpd.importance_samples=8", "batch_size=9"],
    }.items():
        ckpt = runs / {"again": "vae"}.get(name, name)
        result = cli("eval", f"ckpt={ckpt}", "n=40", f"out=e_{name}", *arguments)
        assert result.code == 0, result.err
        found[name] = json.loads((tmp_path / f"e_{name}/eval.json").read_text())
    bits = {name: {k: v["mean"] for k, v in facts["bits_per_dim"].items()} for name, facts in found.items()}
    assert list(bits["gmm"]) == ["exact"] and 6 < bits["gmm"]["exact"] < 8
    vae = bits["vae"]
    assert set(vae) == {"elbo", "reconstruction", "kl", "iw_bound", "elbo_gmm", "iw_bound_gmm"}
    assert vae["iw_bound"] < vae["elbo"] == pytest.approx(vae["reconstruction"] + vae["kl"], rel=1e-9)
    assert vae["iw_bound_gmm"] < vae["elbo_gmm"] and 6 < vae["elbo"] < 8.2
    assert set(bits["plain"]) == {"elbo", "reconstruction", "kl", "iw_bound"}
    assert bits["again"] == pytest.approx(vae, rel=1e-5)
    assert found["vae"]["protocol"]["bpd"]["importance_samples"] == 8
    assert [p.name for p in (tmp_path / "e_vae").iterdir()] == ["eval.json"]


def test_a_prior_of_other_weights_is_not_kept(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finished run that is continued has no prior until it is fitted again, even when it is killed in between."""

    def broken(*_: Any) -> None:
        raise KeyboardInterrupt

    run = ["run_dir=run", *VAE, "trainer.sample_every=0"]
    assert cli("train", *run, "trainer.steps=4").code == 0
    before = load_file(tmp_path / "run/checkpoints/step_00000004.safetensors")["ema.mixture.means"]
    with monkeypatch.context() as patch:
        patch.setattr(latent, "fit_prior", broken)
        assert cli("train", *run, "trainer.steps=8").code == 130
    assert cli("sample", "ckpt=run", "out=s", "n=2").code == 0 and facts(tmp_path / "s")["task"]["prior"] == "normal"
    assert cli("train", *run, "trainer.steps=8").code == 0
    after = load_file(tmp_path / "run/checkpoints/step_00000008.safetensors")
    assert float(after["ema.mixture.weights"].sum()) == pytest.approx(1, abs=1e-5)
    assert not bool((after["ema.mixture.means"] == before).all())
    assert cli("sample", "ckpt=run", "out=s", "n=2").code == 0 and facts(tmp_path / "s")["task"]["prior"] == "gmm"


def test_a_signal_stops_the_fit_of_the_prior(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fits: list[int] = []

    def interrupted(self: GaussianMixture, x: np.ndarray) -> GaussianMixture:
        fits.append(len(x))
        os.kill(os.getpid(), signal.SIGINT)
        self.converged_ = False
        return self

    run = ["run_dir=run", *VAE, "trainer.sample_every=0", "trainer.steps=4"]
    with monkeypatch.context() as patch:
        patch.setattr(GaussianMixture, "fit", interrupted)
        result = cli("train", *run)
    assert result.code == 130 and len(fits) == 1 and "before the prior was fitted" in result.out + result.err
    assert cli("train", *run).code == 0
    stopped = load_file(tmp_path / "run/checkpoints/step_00000004.safetensors")
    assert cli("train", *[arg.replace("run_dir=run", "run_dir=whole") for arg in run]).code == 0
    whole = load_file(tmp_path / "whole/checkpoints/step_00000004.safetensors")
    assert float(whole["ema.mixture.weights"].sum()) == pytest.approx(1, abs=1e-5)
    assert all(whole[name].equal(stopped[name]) for name in whole)


def test_em_in_strides_equals_em_in_one_piece() -> None:
    z = torch.randn(300, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 3.0])
    ours = Mixture(4, 2, torch.float64)
    assert latent.fit_prior(ours, z, seed=0)
    state = seed_of(0) % 2**32
    whole = GaussianMixture(4, reg_covar=latent.FLOOR, max_iter=latent.ITERATIONS, random_state=state)
    whole.fit(z.double().numpy())
    assert whole.n_iter_ >= 2 * latent.STRIDE and ours.means.numpy() == pytest.approx(whole.means_, abs=1e-9)


def test_em_validates_when_it_is_due_and_refuses_what_it_cannot_use(cli: Cli, tmp_path: Path) -> None:
    run = ["run_dir=run", *GMM, "trainer.sample_every=0", "objective.tol=0"]
    assert cli("train", *run, "trainer.steps=5", "trainer.eval_every=2").code == 0
    assert [row["step"] for row in rows(tmp_path / "run") if "val_bits_per_dim" in row] == [2, 4, 5]
    for wrong in ("trainer.best_by=val_loss", "trainer.features=clf"):
        result = cli("train", *GMM, "run_dir=other", wrong)
        assert result.code == 2 and result.err.startswith(f"ddpm: error: {wrong.partition('=')[0]}: EM"), result.err


def test_a_line_is_logged_when_a_sampler_is_ignored(runs: Path, cli: Cli) -> None:
    common = ["n=2", "device=cpu"]
    between = [*common, "kind=interpolate", "between=[3,17]"]
    for command, rest in (("sample", common), ("gif", between), ("eval", ["device=cpu", "metrics=[bpd]", "n=2"])):
        result = cli(command, f"ckpt={runs / 'vae'}", *rest, "sampler.steps=7")
        assert result.code == 0 and "sampler: ignored" in result.out + result.err, result.err
        result = cli(command, f"ckpt={runs / 'vae'}", *rest)
        assert result.code == 0 and "ignored" not in result.out + result.err
