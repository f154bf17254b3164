"""Every folder of the corpus is understood as its entry says, and can be trained on, resumed, sampled and evaluated."""

import json
from pathlib import Path

import pytest

from ddpm_cli.errors import DataError

from ..conftest import Cli
from .corpus import FOLDERS, load

S = [
    "dataset=image_folder", "dataset.root=d", "dataset.size=8", "model=unet_tiny", "model.channels=8", "trainer=quick",
    "trainer.batch_size=4", "trainer.sample_every=0", "trainer.eval_every=0", "logger=none", "run_dir=r",
]  # fmt: skip


@pytest.fixture
def root(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "d"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("name", FOLDERS)
def test_what_is_understood(name: str, root: Path) -> None:
    about = FOLDERS[name]
    about.make(root)
    if not about.pictures:
        with pytest.raises(DataError) as error:
            load(name, root)
        assert all(part in str(error.value) for part in about.lines), error.value
        return
    pictures, classes, lines = load(name, root)
    assert (pictures, classes) == (about.pictures, about.classes)
    for part in about.lines:
        assert any(part in line for line in lines[1:]), (part, lines)
    if not about.lines:
        assert len(lines) == 1, lines
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("name", [name for name, about in FOLDERS.items() if about.trains])
def test_train_resume_sample_and_evaluate(name: str, root: Path, cli: Cli, tmp_path: Path) -> None:
    about = FOLDERS[name]
    about.make(root)
    options = [*S, *(f"dataset.{key}={str(value).lower()}" for key, value in about.options.items())]
    for steps in (1, 2):
        result = cli("train", f"trainer.steps={steps}", *options)
        assert result.code == 0, result.err
    manifest = json.loads((tmp_path / "r/checkpoints/step_00000002.json").read_text())
    assert tuple(manifest["about"]["class_names"]) == about.classes
    for number, label in enumerate(about.classes):
        result = cli("sample", "ckpt=r", "n=1", f"label={label}", f"out=s{number}", "sampler.steps=1")
        assert result.code == 0, result.err
        facts = json.loads((tmp_path / f"s{number}/sample.json").read_text())
        assert facts["classes"] == [label] and facts["labels"] == [number]
    if not about.classes:
        assert cli("sample", "ckpt=r", "n=1", "out=s", "sampler.steps=1").code == 0
    bits = ["metrics=[bpd]", "n=1", "bpd.steps=2", "bpd.terms=2", "bpd.ode_steps=0"]
    result = cli("eval", "ckpt=r", "split=train", "out=e", *bits)
    assert result.code == 0, result.err
