"""model=auto: the width that fits the time to train and the speed of the machine."""

import json
from pathlib import Path
from typing import Any

import pytest

from ddpm_cli.training import width
from ddpm_cli.training.width import FITS, fit_for

from ..conftest import Cli, Result
from ..manifests import edit
from .machine import Machine

RUN = ["train", "run_dir=run", "model=auto", "logger=none", "trainer.sample_every=0", "trainer.eval_every=0"]
SHORT = [*RUN, "trainer.budget=8s", "trainer.batch_size=4"]


def channels(folder: Path) -> list[Any]:
    """Of config.json and of every checkpoint."""
    manifests = [json.loads(p.read_text())["config"] for p in sorted((folder / "checkpoints").glob("*.json"))]
    return [c["model"]["channels"] for c in (json.loads((folder / "config.json").read_text()), *manifests)]


def rates(folder: Path) -> tuple[float, float]:
    """The learning rate of config.json, and the highest of the log lines."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    config = json.loads((folder / "config.json").read_text())
    return config["optimizer"]["lr"], max(row["lr"] for row in rows if "lr" in row)


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    Machine(step=0.2).use(monkeypatch)


def timed(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr(width, "step_seconds", lambda *arguments: seconds)


def test_the_more_steps_fit_the_wider() -> None:
    fits = [fit_for(steps) for steps in (1, *FITS, 10**6)]
    widths, factors = [fit.width for fit in fits], [fit.guidance for fit in fits]
    assert widths == sorted(widths) and widths[0] == 16 and widths[-1] == 64
    assert factors == sorted(factors, reverse=True) and factors[-1] == 1


@pytest.mark.parametrize(("seconds", "expected"), [(1.0, 16), (0.015, 32), (1e-5, 64)])
def test_the_width_follows_the_speed(
    seconds: float, expected: int, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed(monkeypatch, seconds)
    result = cli(*SHORT)
    assert result.code == 0, result.err
    assert f"model.channels: auto chooses {expected};" in result.err
    assert set(channels(tmp_path / "run")) == {expected}
    rate, highest = rates(tmp_path / "run")
    assert rate == 4e-3 * 64 / expected and 0.2 * rate < highest <= rate


def resumed_with(cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch, key: tuple[str, str], value: Any) -> Result:
    """Resume a run after a value in the configs of its checkpoints was changed."""
    timed(monkeypatch, 1.0)
    assert cli(*SHORT).code == 0
    for path in (folder / "run/checkpoints").glob("*.json"):
        edit(path, lambda content: content["config"][key[0]].update({key[1]: value}))
    return cli(*SHORT, "trainer.budget=12s")


@pytest.mark.parametrize("width", [0, -3, 10**400, True, "x", None, [1], 3.5])
def test_a_damaged_width_is_a_line(width: Any, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = resumed_with(cli, tmp_path, monkeypatch, ("model", "channels"), width)
    assert result.code in (2, 4) and "this is a bug" not in result.err, result.err


@pytest.mark.parametrize("scale", [10**400, float("nan"), float("inf"), "x", True, [1], None])
def test_a_damaged_scale_is_left_alone(scale: Any, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = resumed_with(cli, tmp_path, monkeypatch, ("guidance", "scale"), scale)
    assert result.code == 0, result.err


def test_the_guidance_follows_too(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timed(monkeypatch, 1.0)

    def scale(folder: str) -> float:
        return float(json.loads((tmp_path / folder / "config.json").read_text())["guidance"]["scale"])

    assert cli(*SHORT).code == 0
    assert scale("run") == 3.33
    timed(monkeypatch, 1e-5)
    assert cli(*SHORT, "trainer.budget=12s").code == 0
    assert scale("run") == 3.33
    assert cli(*SHORT, "run_dir=long").code == 0
    assert scale("long") == 2.0
    timed(monkeypatch, 1.0)
    assert cli(*SHORT, "run_dir=own", "guidance.scale=1.2").code == 0
    assert scale("own") == 1.2
    assert cli("sample", "ckpt=run", "n=2", "out=out").code == 0
    assert json.loads((tmp_path / "out/sample.json").read_text())["guidance"]["scale"] == 3.33


def test_a_learning_rate_of_the_user_stays(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timed(monkeypatch, 1.0)
    assert cli(*SHORT, "optimizer.lr=1e-3").code == 0
    assert rates(tmp_path / "run")[0] == 1e-3


def test_a_resumed_run_keeps_its_width(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timed(monkeypatch, 1.0)
    assert cli(*SHORT).code == 0
    timed(monkeypatch, 1e-5)
    result = cli(*SHORT, "trainer.budget=12s")
    assert result.code == 0 and "auto chooses" not in result.err and "optimizer.lr" not in result.err, result.err
    assert set(channels(tmp_path / "run")) == {16} and rates(tmp_path / "run")[0] == 16e-3
    started = cli(*SHORT, "run_dir=second", "resume=run", "trainer.budget=20s")
    assert started.code == 0, started.err
    assert set(channels(tmp_path / "second")) == {16}
    # a width of one's own is another network
    assert cli(*SHORT, "model.channels=32").err.startswith("ddpm: error: model.channels: is 32, but")
    assert cli("sample", "ckpt=run", "n=2", "out=out").code == 0


def test_the_steps_are_timed(cli: Cli) -> None:
    result = cli(*SHORT)
    assert result.code == 0 and "a network of 64 channels would make about" in result.err


def test_without_a_limit_of_time_it_is_the_usual_width(cli: Cli, tmp_path: Path) -> None:
    result = cli(*RUN, "trainer.steps=1", "trainer.batch_size=2")
    assert result.code == 0 and "auto chooses" not in result.err, result.err
    assert set(channels(tmp_path / "run")) == {64}
