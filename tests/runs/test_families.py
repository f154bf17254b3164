"""The table of families of models: its classes exist, and every shipped model belongs to a family."""

from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest
import yaml

from ddpm_cli.build import locate
from ddpm_cli.config.compose import compose_command
from ddpm_cli.config.launch import plain
from ddpm_cli.config.shipped import conf_dir
from ddpm_cli.hardware.runtime import choose_runtime
from ddpm_cli.runs.assemble import ModelSpec, network
from ddpm_cli.runs.families import FAMILIES, OTHER, Family, family_of
from ddpm_cli.runs.load import LoadedRun
from ddpm_cli.sampling.animation import Kind
from ddpm_cli.sampling.generator import Generator
from ddpm_cli.sampling.options import GifOptions, SampleOptions
from ddpm_cli.training.session import Session

MODELS = sorted(p.stem for p in (conf_dir() / "model").glob("*.yaml"))


@pytest.mark.parametrize("family", [*FAMILIES, OTHER], ids=lambda family: family.model.__name__)
def test_both_classes_exist(family: Family) -> None:
    opened, trained = (locate(path, "model", None) for path in (family.opened, family.trained))
    assert isinstance(opened, type) and issubclass(opened, LoadedRun)
    assert isinstance(trained, type) and issubclass(trained, Session)
    assert opened.name.split()[0] in ("a", "an", "another") and trained.name.split()[0] in ("a", "an", "another")
    if not issubclass(opened, Generator):
        return
    assert not opened.__abstractmethods__
    assert set(opened.animations) <= set(get_args(Kind))
    keys = {f.name for options in (SampleOptions, GifOptions) for f in fields(options)}
    eval_keys = yaml.safe_load((conf_dir() / "eval.yaml").read_text(encoding="utf-8"))
    assert set(opened.ignores) <= keys | set(eval_keys)


@pytest.mark.parametrize("model", MODELS)
def test_every_shipped_model_belongs_to_a_family(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    size = 28 if model in ("vae", "unet_tutorial") else 32
    dataset = ["dataset=image_folder", "dataset.root=x", f"dataset.size={size}", "dataset.classes=3"]
    config = compose_command("train", [f"model={model}", *dataset, "run_dir=x"])
    del config.hydra
    values = plain(config)
    wrapped = ModelSpec.of(values, choose_runtime("cpu", "fp32")).wrap(network(values))
    assert family_of(wrapped) in FAMILIES
