"""sample, gif and eval guide as the run was told to, unless they are told otherwise."""

import json
from pathlib import Path

import numpy as np
import pytest

import ddpm_cli
from ddpm_cli.build import build
from ddpm_cli.diffusion.guidance import ClassifierFree, Unguided
from ddpm_cli.errors import ConfigError
from ddpm_cli.sampling.generator import Generator
from ddpm_cli.sampling.run_guidance import RunGuidance
from ddpm_cli.sampling.run_sampler import RunSampler

from ..conftest import TINY, Cli

TRAIN = ["train", "run_dir=run", "trainer.steps=2", "logger=none", "sampler.steps=3", *TINY]
CONDITIONAL = [
    *TRAIN,
    "model.class_conditional=true",
    "objective.label_dropout=0.1",
    "trainer.steps=20",
    "optimizer.lr=0.01",
]
"""Long enough for the classes to matter."""
GUIDED = ["guidance=cfg", "guidance.scale=2.5"]


def facts(folder: Path) -> tuple[str, float | None, str]:
    found = json.loads((folder / "sample.json").read_text())
    return found["guidance"]["name"], found["guidance"].get("scale"), found["guidance_from"]


def test_the_run_decides_and_the_command_may_change_it(cli: Cli, tmp_path: Path) -> None:
    assert cli(*CONDITIONAL, *GUIDED).code == 0
    cases: dict[str, tuple[list[str], tuple[str, float | None, str]]] = {
        "plain": ([], ("cfg", 2.5, "run")),
        "named": (GUIDED, ("cfg", 2.5, "request")),
        "stronger": (["guidance.scale=4"], ("cfg", 4.0, "run")),
        "none": (["guidance=none"], ("none", None, "request")),
    }
    for name, (arguments, expected) in cases.items():
        result = cli("sample", "ckpt=run", "n=3", f"out={name}", *arguments)
        assert result.code == 0, result.err
        assert facts(tmp_path / name) == expected
    bytes_of = {name: (tmp_path / name / "samples.npz").read_bytes() for name in cases}
    assert bytes_of["plain"] == bytes_of["named"]
    assert bytes_of["plain"] != bytes_of["none"] != bytes_of["stronger"]
    shown = cli("sample", "ckpt=run", "n=1", "out=shown").out
    assert "guidance ClassifierFree" in shown and "scale: 2.5" in shown
    run = ddpm_cli.load("run")
    assert isinstance(run, Generator)
    with np.load(tmp_path / "plain/samples.npz") as kept:
        assert np.array_equal(run.sample(n=3).pixels, kept["arr_0"])
    assert cli("gif", "ckpt=run", "n=2", "frames=3", "out=a.gif").code == 0
    # a picture whose class nobody named is varied without a class, and a run may be guided that was not told to be
    picture = tmp_path / "plain/images/000000.png"
    assert cli("sample", "ckpt=run", "n=2", f"init={picture}", "out=varied").code == 0
    assert facts(tmp_path / "varied") == ("none", None, "run")


def test_the_grids_of_training_are_guided(cli: Cli, tmp_path: Path) -> None:
    grids = {}
    for name, arguments in {"with": GUIDED, "without": ["guidance=none"], "as_run": ["guidance=run"]}.items():
        assert cli(*CONDITIONAL, "trainer.sample_every=20", f"run_dir={name}", *arguments).code == 0
        grids[name] = (tmp_path / name / "samples/step_00000020.png").read_bytes()
    assert grids["with"] != grids["without"] == grids["as_run"]
    weights = [next((tmp_path / name).glob("checkpoints/*.safetensors")).read_bytes() for name in ("with", "without")]
    assert weights[0] == weights[1]


def test_a_recipe_with_guidance_also_suits_pictures_without_classes(cli: Cli, tmp_path: Path) -> None:
    recipe = [*TRAIN, "guidance=cfg", "model.class_conditional=false"]
    result = cli(*recipe)
    assert result.code == 2 and result.err.startswith("ddpm: error: guidance: cfg needs a class-conditional model")
    unconditional = [*TRAIN, "objective=v_stratified", "model.class_conditional=false"]  # names no guidance
    result = cli(*unconditional)
    assert result.code == 0 and "guidance: none, as this model does not learn classes" in result.err
    assert cli("sample", "ckpt=run", "n=2", "out=out").code == 0
    assert facts(tmp_path / "out") == ("none", None, "run")
    result = cli("sample", "ckpt=run", "n=2", "out=scaled", "guidance.scale=2")
    assert result.code == 2 and "guidance: cfg needs a class-conditional model" in result.err


def test_a_classifier_does_not_guide_training(cli: Cli) -> None:
    result = cli(*TRAIN, "guidance=classifier", "guidance.classifier=somewhere")
    assert result.code == 2 and result.err.startswith("ddpm: error: guidance: a classifier can guide")


@pytest.mark.parametrize("value", ["nan", "[1,2]", "many"])
def test_a_scale_that_is_none_is_named(value: str, cli: Cli) -> None:
    assert cli(*CONDITIONAL).code == 0
    result = cli("sample", "ckpt=run", "out=out", f"guidance.scale={value}")
    assert result.code == 2 and result.err.startswith("ddpm: error: guidance.scale: must be")


def test_a_run_from_before_there_was_guidance_has_none() -> None:
    assert RunGuidance().of({}, True, ()) == Unguided()
    assert RunGuidance(scale=2.0).of({}, True, ()) == ClassifierFree(2.0)
    own = {"guidance": {"_target_": "ddpm_cli.diffusion.guidance.ClassifierFree", "scale": 3.0, "interval": [0.2, 1.0]}}
    assert RunGuidance(scale=2.0).of(own, True, ()) == ClassifierFree(2.0, (0.2, 1.0))
    assert RunGuidance().of(own, False, ()) == Unguided()


NONSENSE: list[object] = [
    "x", 1, True, [1], ["_target_"], {"a": 1}, {"_target_": 3}, {"_target_": "ddpm_cli.diffusion.guidance.Guidance"},
    *({"_target_": "ddpm_cli.diffusion.guidance.ClassifierFree", **values} for values in (
        {"scale": 10**400}, {"scale": "x"}, {"scale": None}, {"scale": [1]}, {"scale": float("nan")}, {"other": 1},
        {"interval": [0, 10**400]}, {"interval": 1}, {"scale": {"_target_": "ddpm_cli.diffusion.guidance.Unguided"}},
    )),
]  # fmt: skip


@pytest.mark.parametrize("node", NONSENSE)
def test_nonsense_in_a_run_is_a_line(node: object) -> None:
    with pytest.raises(ConfigError, match=r"^guidance"):
        RunGuidance().of({"guidance": node}, True, ())
    if not isinstance(node, dict) or "scale" not in node:
        with pytest.raises(ConfigError, match=r"^sampler"):
            RunSampler().of({"sampler": node}, ())


@pytest.mark.parametrize("target", ["os.system", "ddpm_cli.files.replace", "subprocess.Popen"])
def test_a_run_may_not_name_any_class(target: str) -> None:
    with pytest.raises(ConfigError, match="guidance: the run's own guidance .* is not trusted"):
        RunGuidance().of({"guidance": {"_target_": target}}, True, ())
    assert build({"_target_": "ddpm_cli.sampling.run_guidance.RunGuidance"}, "guidance") == RunGuidance()
