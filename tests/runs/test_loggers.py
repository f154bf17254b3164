"""Loggers: TensorBoard and its graph, trackio, a fake Weights & Biases, several together, one that fails."""

import errno
import json
import re
import shutil
import sqlite3
import sys
import warnings
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from ddpm_cli.models.classifier_layers import Classifier
from ddpm_cli.models.resnet import ResNet
from ddpm_cli.models.unet_classifier import UNetClassifier
from ddpm_cli.runs.loggers import add_graph

from ..conftest import TINY, Cli


def has_graph(folder: Path) -> bool:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return bool(events.Tags()["graph"])


@pytest.mark.parametrize(
    "module",
    [ResNet(1, channels=4, blocks=1), UNetClassifier(1, 8, channels=16, multipliers=(1,), dropout=0.5)],
    ids=["untimed", "timed"],
)
def test_adding_a_graph_changes_nothing(module: nn.Module, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    module.train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    with warnings.catch_warnings(), SummaryWriter(str(tmp_path)) as writer:
        warnings.simplefilter("error")
        add_graph(writer, module, (1, 8, 8))
    assert torch.equal(torch.rand(1), expected)
    assert module.training and all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert capfd.readouterr() == ("", "")
    assert has_graph(tmp_path)


class Untraceable(Classifier):
    timed = False

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        raise RuntimeError("no such luck\nand more")


def test_a_failure_to_trace_is_only_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("INFO")
    with SummaryWriter(str(tmp_path)) as writer:
        add_graph(writer, Untraceable(), (1, 8, 8))
    assert caplog.messages == ["TensorBoard will not show the graph of the network (no such luck)"]
    assert "Error occurs" not in capfd.readouterr().out  # torch's own print
    assert not has_graph(tmp_path)


RUN = ["train", "run_dir=a/run", "trainer.log_every=2", "trainer.sample_every=2", "sampler.steps=2", *TINY]


class Package(ModuleType):
    """A fake of both packages, as far as a run uses them. Records the calls."""

    def __init__(self, name: str, full: bool = False):
        super().__init__(name)
        self.__spec__ = ModuleSpec(name, None)
        self.init_options: list[dict[str, Any]] = []
        self.logged: list[tuple[int, dict[str, Any]]] = []
        self.full, self.finished = full, 0

    def init(self, **options: Any) -> "Package":
        self.init_options.append(options)
        return self

    def Image(self, picture: np.ndarray) -> tuple[int, ...]:  # noqa: N802
        return picture.shape

    def log(self, values: dict[str, Any], step: int) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        self.logged.append((step, values))

    def finish(self) -> None:
        self.finished += 1


def test_weights_and_biases_gets_what_metrics_jsonl_has(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = Package("wandb")
    monkeypatch.setitem(sys.modules, "wandb", package)
    mine = ["logger=wandb", "logger.wandb.project=mine", "logger.wandb.options={entity: me}"]
    assert cli(*RUN, *mine, "trainer.steps=4").code == 0
    options = package.init_options[0]
    assert {k: options[k] for k in ("project", "resume", "entity")} == {
        "project": "mine", "resume": "allow", "entity": "me",
    }  # fmt: skip
    assert options["name"] == options["id"] and re.fullmatch("a_run-[0-9a-f]{4}", options["name"])
    assert options["config"]["model"]["in_channels"] == 1 and package.finished == 1
    rows = [json.loads(line) for line in (tmp_path / "a/run/metrics.jsonl").read_text().splitlines()]
    scalars = [{"step": step, **values} for step, values in package.logged if "samples" not in values]
    assert scalars == rows and len(rows) == 3  # the last is the validation at the end
    pictures = [values["samples"] for _, values in package.logged if "samples" in values]
    assert len(pictures) == 2 and all(shape[2] == 3 for shape in pictures)  # grey images become RGB
    assert not (tmp_path / "a/run/tensorboard").exists()


def test_trackio_beside_tensorboard_and_after_a_resume(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("trackio")
    both = ["logger=[tensorboard,trackio]", "logger.trackio.project=p"]
    for steps in (2, 4):
        result = cli(*RUN, *both, f"trainer.steps={steps}")
        assert result.code == 0, result.err
        assert "Trackio" not in result.out + result.err  # its greetings
    with sqlite3.connect(tmp_path / "trackio/p.db") as base:
        logged = base.execute("select run_name, step, metrics from metrics order by id").fetchall()
    losses = {
        step: json.loads(values)["loss"] for _, step, values in logged if b"loss" in values.replace(b"val_loss", b"")
    }
    rows = [json.loads(line) for line in (tmp_path / "a/run/metrics.jsonl").read_text().splitlines()]
    assert losses == {row["step"]: row["loss"] for row in rows if "loss" in row} and set(losses) == {2, 4}
    names = {name for name, *_ in logged}
    assert len(names) == 1 and re.fullmatch("a_run-[0-9a-f]{4}", names.pop())
    assert list((tmp_path / "a/run/tensorboard").iterdir())
    shutil.rmtree(tmp_path / "a/run")
    assert cli(*RUN, both[1], "logger=trackio", "trainer.steps=2").code == 0  # a new run in the same place
    with sqlite3.connect(tmp_path / "trackio/p.db") as base:
        assert len(base.execute("select distinct run_name from metrics").fetchall()) == 2


def test_a_logger_that_fails_does_not_end_the_run(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", Package("wandb", full=True))
    result = cli(*RUN, "logger=[wandb,tensorboard]", "trainer.steps=4")
    assert result.code == 0 and result.err.count("logger.wandb: failed") == 1 and "No space left" in result.err
    assert (tmp_path / "a/run/checkpoints/step_00000004.json").is_file()
    assert list((tmp_path / "a/run/tensorboard").iterdir())


def test_a_logger_that_cannot_start_ends_a_new_run_but_not_a_resumed_one(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = Package("wandb")
    monkeypatch.setitem(sys.modules, "wandb", package)

    def refuse(**options: Any) -> Package:
        raise ValueError("No API key configured.\nmore")

    monkeypatch.setattr(package, "init", refuse)
    result = cli(*RUN, "logger=wandb", "trainer.steps=2")
    assert result.code == 2 and result.err.splitlines()[-1].startswith("ddpm: error: logger.wandb: cannot start")
    assert "(No API key configured)" in result.err and not (tmp_path / "a").exists()
    assert cli(*RUN, "logger=none", "trainer.steps=2").code == 0
    resumed = cli(*RUN, "logger=wandb", "trainer.steps=4")
    assert resumed.code == 0 and "logger.wandb: cannot start (No API key configured)" in resumed.err


def test_a_missing_logger_package_is_a_one_line_error(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = cli(*RUN, "logger=trackio")
    assert result.code == 2 and len(result.err.splitlines()) == 1
    assert "trackio is not installed; pip install 'ddpm-cli[trackio]'" in result.err
    assert not (tmp_path / "a").exists()


def test_help_marks_every_chosen_logger(cli: Cli) -> None:
    out = cli("train", "--help", "logger=[tensorboard,trackio]").out
    assert "*tensorboard" in out and "*trackio" in out and "logger.trackio.project" in out


def test_a_full_disk_at_the_start_of_tensorboard(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thread would print a traceback."""
    from tensorboard.compat.tensorflow_stub.io.gfile import LocalFileSystem

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(LocalFileSystem, "_write", full)
    result = cli("train", "run_dir=run", "trainer.steps=1", *TINY)
    if result.code == 0:  # the thread was slower than the run
        assert "logger.tensorboard: failed" in result.err
    else:
        assert result.code == 6 and "run/tensorboard: No space left on device;" in result.err
    assert "Traceback" not in result.err
