"""sample, gif and eval draw as the run was told to, unless they are told otherwise."""

import json
from pathlib import Path

import numpy as np
import pytest

import ddpm_cli
from ddpm_cli.build import build
from ddpm_cli.config.shipped import shipped_choices
from ddpm_cli.diffusion.samplers import DDIM
from ddpm_cli.sampling.generator import Generator
from ddpm_cli.sampling.run_sampler import RUN_SAMPLER, sampler_name

from ..conftest import TINY, Cli
from ..manifests import edit

TRAIN = ["train", "run_dir=run", "trainer.steps=2", "trainer.sample_every=0", "logger=none", *TINY]
OWN = ["sampler=dpmpp_2m", "sampler.steps=4", "sampler.spacing=karras"]


@pytest.fixture
def trained(cli: Cli) -> Cli:
    assert cli(*TRAIN, *OWN).code == 0
    return cli


def facts(folder: Path) -> dict[str, object]:
    found = json.loads((folder / "sample.json").read_text())
    assert isinstance(found, dict)
    return found


def test_the_run_decides_and_the_command_may_change_it(trained: Cli, tmp_path: Path) -> None:
    cases: dict[str, tuple[list[str], tuple[str, int, str, str]]] = {
        "plain": ([], ("dpmpp_2m", 4, "karras", "run")),
        "named": (OWN, ("dpmpp_2m", 4, "karras", "request")),
        "fewer": (["sampler.steps=3"], ("dpmpp_2m", 3, "karras", "run")),
        "other": (["sampler=ddim", "sampler.steps=3"], ("ddim", 3, "auto", "request")),
    }
    for name, (arguments, expected) in cases.items():
        result = trained("sample", "ckpt=run", "n=3", f"out={name}", *arguments)
        assert result.code == 0, result.err
        sample = facts(tmp_path / name)
        sampler = sample["sampler"]
        assert isinstance(sampler, dict)
        assert (sampler["name"], sample["steps"], sampler["spacing"], sample["sampler_from"]) == expected
    assert (tmp_path / "plain/samples.npz").read_bytes() == (tmp_path / "named/samples.npz").read_bytes()
    shown = trained("sample", "ckpt=run", "n=1", "out=shown").out
    assert "sampler DPMpp2M" in shown and "from: the run" in shown and "steps: 4" in shown
    run = ddpm_cli.load("run")
    assert isinstance(run, Generator)
    with np.load(tmp_path / "plain/samples.npz") as kept:
        assert np.array_equal(run.sample(n=3).pixels, kept["arr_0"])
        assert not np.array_equal(run.sample(n=3, sampler=DDIM()).pixels, kept["arr_0"])


def test_gif_and_eval_draw_in_the_same_way(trained: Cli, tmp_path: Path) -> None:
    result = trained("gif", "ckpt=run", "n=2", "frames=3", "out=a.gif")
    assert result.code == 0 and "sampler DPMpp2M" in result.out
    assert trained("train", "model=resnet", "run_dir=classifier", "trainer.steps=2", "logger=none").code == 0
    result = trained("eval", "ckpt=run", "features=classifier", "n=8", "real=8", "resamples=0", "metrics=[fd]", "out=e")
    assert result.code == 0, result.err
    values = json.loads((tmp_path / "e/eval.json").read_text())["figures"]
    assert values["fd"]["protocol"]["sampler"]["name"] == "dpmpp_2m" and values["fd"]["protocol"]["steps"] == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sampler.eta=0.5"], "sampler.eta: is not an option"),
        (["sampler.steps=0"], "sampler.steps: must be"),
        (["sampler.steps=many"], "sampler.steps: must be a whole number or null"),
        (["sampler.spacing=wide"], "sampler.spacing: must be"),
    ],
)
def test_an_option_that_the_runs_sampler_does_not_have_is_named(
    arguments: list[str], words: str, trained: Cli, tmp_path: Path
) -> None:
    result = trained("sample", "ckpt=run", "out=out", *arguments)
    assert result.code == 2 and words in result.err and not (tmp_path / "out").exists()


@pytest.mark.parametrize("target", ["os.system", "ddpm_cli.runs.checkpoint.Checkpoint", "my_pkg.Sampler", "x"])
def test_a_strangers_sampler_is_refused(target: str, trained: Cli, tmp_path: Path) -> None:
    file = tmp_path / "run/checkpoints/step_00000002.json"
    edit(file, lambda content: content["config"].update(sampler={"_target_": target}))
    result = trained("sample", "ckpt=run", "n=1", "out=out")
    assert result.code == 2 and f"the run's own sampler {target} is not trusted" in result.err
    assert trained("sample", "ckpt=run", "n=1", "out=out", "sampler=ddim", "sampler.steps=1").code == 0


def test_training_with_it_is_ddim(cli: Cli, tmp_path: Path) -> None:
    assert cli(*TRAIN, "sampler=run", "sampler.steps=3").code == 0
    assert cli("sample", "ckpt=run", "n=1", "out=out").code == 0
    sample = facts(tmp_path / "out")
    assert (sample["steps"], sample["sampler"]["name"]) == (3, "ddim")  # type: ignore[index]


def test_samplers_are_named_as_their_files() -> None:
    nodes = {k: node for k, node in shipped_choices("sampler").items() if node["_target_"] != RUN_SAMPLER}
    assert len(nodes) >= 7 and {name: sampler_name(build(node, "sampler")) for name, node in nodes.items()} == {
        name: name for name in nodes
    }
