"""Runs with a budget end in time, with their learning rate at its end, on machines of any speed."""

import json
import math
import re
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddpm_cli.training.budget import Decision, decide
from ddpm_cli.training.plan import Plan, seconds_of

from ..conftest import TINY, Cli
from .machine import Machine

RUN = ["train", "run_dir=run", "logger=none", "optimizer.lr=1e-3", "trainer.warmup_steps=50", *TINY]


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def digest(folder: Path) -> str:
    newest = sorted((folder / "checkpoints").glob("*.json"))[-1]
    return str(json.loads(newest.read_text())["sha256"])


@pytest.mark.parametrize(
    ("machine", "seconds"),
    [
        (Machine(step=2.0), 600),
        (Machine(step=10.0), 1200),
        (Machine(step=20.0), 1200),
        (Machine(step=2.0, check=6.0), 600),
        (Machine(step=2.0, slower_from=100, factor=3.0), 600),
        (Machine(step=6.0, slower_from=30, factor=0.3), 600),
        (Machine(step=50.0), 600),
    ],
    ids=["fast", "five times slower", "ten times slower", "slow checks", "becomes slow", "becomes fast", "few steps"],
)
def test_a_run_ends_in_time_with_its_learning_rate_at_the_end(
    machine: Machine, seconds: int, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.use(monkeypatch)
    result = cli(*RUN, f"trainer.budget={seconds}s")
    assert result.code == 0, result.err
    spent = machine.now
    assert abs(spent - seconds) <= max(0.03 * seconds, 1.1 * machine.step), spent
    rates = [row["lr"] for row in rows(tmp_path / "run") if "lr" in row]
    assert max(rates) > 0.9e-3 or len(rates) < 4
    assert rates[-1] < 0.02 * max(rates) or len(rates) < 4
    manifest = json.loads(sorted((tmp_path / "run/checkpoints").glob("*.json"))[-1].read_text())
    assert manifest["chosen"]["budget"]["steps"] == manifest["step"]
    announced = re.findall(r"is enough for about ([\d,]+) steps|the run now ends at step ([\d,]+)", result.err)
    last = int("".join(announced[-1]).replace(",", ""))
    assert abs(manifest["step"] / last - 1) < 0.15 and len(announced) <= 12
    if machine.slower_from:
        assert f"steps have become {'slower' if machine.factor > 1 else 'faster'}; the run now ends" in result.err
    again = cli(*RUN, f"trainer.budget={seconds}s")
    assert again.code == 0 and "already finished" in again.out


def test_a_run_that_ends_as_soon_as_it_knows_its_speed_logs_its_loss(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Machine(step=2.0, check=3.0).use(monkeypatch)
    assert cli(*RUN, "trainer.budget=3s").code == 0
    last = rows(tmp_path / "run")[-1]
    manifest = json.loads(sorted((tmp_path / "run/checkpoints").glob("*.json"))[-1].read_text())
    assert last["step"] == manifest["step"] and last["loss"] > 0 and "lr" in last


@pytest.mark.parametrize("factor", [1.0, 4.0])
def test_an_interrupted_run_continues_bit_for_bit(
    factor: float, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the speed of the machine on which it continues: what was decided is not measured again."""
    arguments = [*RUN, "trainer.budget=10min", "trainer.keep_last=100"]
    Machine(step=2.0, check=3.0, slower_from=60, factor=1.5).use(monkeypatch)
    assert cli(*arguments).code == 0
    kept = json.loads((tmp_path / "run/budget.json").read_text())
    assert len(kept) > 3
    shutil.copytree(tmp_path / "run", tmp_path / "killed")
    saved = sorted((tmp_path / "killed/checkpoints").glob("step_*.json"))
    for manifest in saved[2:]:
        manifest.unlink()
        manifest.with_suffix(".safetensors").unlink()
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    Machine(step=2.0 * factor).use(monkeypatch)
    killed = ["run_dir=killed" if a == "run_dir=run" else a for a in arguments]
    assert cli(*killed).code == 0
    assert digest(tmp_path / "killed") == digest(tmp_path / "run")
    assert json.loads((tmp_path / "killed/budget.json").read_text()) == kept


def test_a_run_with_a_larger_budget_that_was_killed_continues_bit_for_bit(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if it was killed before its first checkpoint, and continues on a slower machine."""
    arguments = [*RUN, "trainer.keep_last=100"]
    Machine(step=2.0).use(monkeypatch)
    assert cli(*arguments, "trainer.budget=200").code == 0
    saved = set((tmp_path / "run/checkpoints").iterdir())
    assert cli(*arguments, "trainer.budget=400").code == 0
    shutil.copytree(tmp_path / "run", tmp_path / "killed")
    for path in (tmp_path / "run/checkpoints").iterdir():
        if path not in saved:
            (tmp_path / "killed/checkpoints" / path.name).unlink()
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    Machine(step=3.0).use(monkeypatch)
    killed = ["run_dir=killed" if a == "run_dir=run" else a for a in arguments]
    assert cli(*killed, "trainer.budget=400").code == 0
    assert digest(tmp_path / "killed") == digest(tmp_path / "run")
    assert (tmp_path / "killed/budget.json").read_text() == (tmp_path / "run/budget.json").read_text()


def test_a_larger_budget_opens_the_schedule_again(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(step=2.0).use(monkeypatch)
    assert cli(*RUN, "trainer.budget=400").code == 0
    result = cli(*RUN, "trainer.budget=800")
    assert result.code == 0
    assert re.search(r"the learning rate rises again, from 0% to [56]\d% of its peak", result.err)
    assert machine.now == pytest.approx(800, rel=0.03)
    assert rows(tmp_path / "run")[-2]["lr"] < 2e-5
    smaller = cli(*RUN, "trainer.budget=500")
    assert smaller.code == 0 and "already finished" in smaller.out and "budget" in smaller.out


def test_steps_of_the_user_replace_a_budget_of_the_config(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "conf/trainer"
    folder.mkdir(parents=True)
    (folder / "timed.yaml").write_text("defaults:\n  - quick\n  - _self_\nbudget: 10min\n")
    assert cli(*RUN, "trainer=timed", "trainer.steps=2").code == 0
    assert rows(tmp_path / "run")[-1]["step"] == 2
    both = cli(*RUN, "trainer.budget=60s", "trainer.steps=2", "run_dir=other")
    assert both.code == 2 and "trainer.steps: cannot be combined with trainer.budget" in both.err


def test_a_decay_that_the_time_cuts_off_is_named(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    Machine(step=2.0).use(monkeypatch)
    cut = [*RUN, "trainer.lr_decay=cosine", "trainer.log_every=10", "trainer.steps=200", "trainer.max_seconds=100"]
    result = cli(*cut)
    assert result.code == 0
    assert result.err.count("will end this run near step 50 of 200, with the learning rate still at") == 1
    assert "trainer.budget=100 fits the schedule" in result.err
    enough = cli(*cut, "trainer.max_seconds=1000", "run_dir=other")
    assert enough.code == 0 and "will end this run" not in enough.err


def test_a_mixture_with_a_budget_stops_in_time(cli: Cli) -> None:
    assert cli("train", "model=gmm", "trainer.budget=0.001", "run_dir=gmm").code == 0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("10min", 600), ("2h", 7200), ("1h30min", 5400), (45, 45), ("1.5h", 5400), ("30", 30), ("2 h", 7200)],
)
def test_a_budget_is_a_time(text: Any, seconds: float) -> None:
    assert seconds_of(text) == seconds == Plan(budget=text).budget_seconds


@pytest.mark.parametrize("text", ["", "soon", "-1", 0, "10m20", "1e999", "min", "5 days", float("nan"), "0s"])
def test_anything_else_is_not(text: Any) -> None:
    with pytest.raises(ValueError, match="^budget: must be a time such as 90s, 10min or 2h"):
        seconds_of(text)


def test_the_progress_of_the_schedule_has_no_jumps() -> None:
    plan = Plan(budget=600, warmup_steps=50)
    first = decide(plan, 30, 570.0, 0.5, 2.0)
    assert first.warmup_steps == 50 and 1000 < first.steps < 1160 and first.ema_decay < 0.9992
    later = first.corrected(400, 500.0, 0.5)
    assert isinstance(later, Decision) and later.steps > first.steps
    assert later.progress_at(400) == first.progress_at(400)
    assert later.progress_at(later.steps) == 1 and first.progress_at(first.steps) == 1
    steps = np.arange(400, later.steps)
    rates = [later.applied(plan).learning_rate(later.position(int(s)), later.steps, 1) for s in steps]
    assert all(a >= b for a, b in pairwise(rates)) and rates[-1] < 1e-4
    assert math.isclose(rates[0], first.applied(plan).learning_rate(first.position(400), first.steps, 1), rel_tol=0.01)


@pytest.mark.parametrize("damage", ["a digit", "no object"])
def test_damaged_decisions_are_said_and_made_again(
    damage: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Machine(step=2.0).use(monkeypatch)
    assert cli(*RUN, "trainer.budget=10min").code == 0
    newest = max((tmp_path / "run/checkpoints").glob("step_*.json"))
    for path in (newest, newest.with_suffix(".safetensors")):
        path.unlink()
    file = tmp_path / "run/budget.json"
    text = file.read_text()
    changes = {"a digit": text.replace('"steps": ', '"steps": 1', 1), "cut": text[:90], "no object": "[1]"}
    file.write_text(changes[damage])
    result = cli(*RUN, "trainer.budget=10min")
    assert result.code == 0 and "run/budget.json: is damaged; the number of steps is decided again" in result.err


def test_a_run_that_goes_on_without_its_budget_says_that_the_rate_rises(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    Machine(step=2.0).use(monkeypatch)
    assert cli(*RUN, "trainer.budget=60s").code == 0
    result = cli(*RUN, "trainer.steps=60")
    line = r"trainer.budget: is not set any more; the learning rate rises again, from \d % to \d+ % of its peak"
    assert result.code == 0 and re.search(line, result.err), result.err
