"""The output of a run, with and without a terminal."""

import io
import logging
from pathlib import Path

import pytest
from rich.console import Console

from ddpm_cli import console
from ddpm_cli.console import lines, progress, tables
from ddpm_cli.console.progress import TrainingView

from .conftest import TINY, Cli


def test_slow_steps_print_progress_between_log_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    view = TrainingView()
    view.start(0, 100)
    for step in range(1, 8):
        now += 10.0
        view.advance(step, 10.0 * step)
        if step == 5:
            view.metrics(step, {"loss": 0.5, "seconds": 50.0})
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["step 4/100", "step 5/100"]
    assert lines[0] == "step 4/100: 16:00 left" and "loss 0.5000" in lines[1]


def test_a_table_wider_than_the_terminal_keeps_its_numbers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console.out, "_width", 40)
    numbers = [f"{i},123,456.789" for i in range(8)]
    console.table("speed", ["what", *map(str, range(8))], [["a benchmark", *numbers]])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "a benchmark" in line]
    assert all(number in line for number in numbers)


def test_a_log_line_gets_a_line_of_its_own_above_the_progress_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    out, err = (Console(file=terminal, force_terminal=True, width=120) for _ in range(2))
    for module in (lines, progress, tables):
        monkeypatch.setattr(module, "out", out)
    monkeypatch.setattr(lines, "err", err)
    view = TrainingView()
    view.start(0, 10)
    view.metrics(10, {"loss": 0.5, "seconds": 1.0})
    before = len(terminal.getvalue())
    console.LogHandler().emit(logging.LogRecord("ddpm_cli", logging.INFO, "", 0, "finished at step 10", (), None))
    view.stop()
    erase_line = "\x1b[2K"
    assert terminal.getvalue()[before:].partition("finished")[0].rstrip().count(erase_line) == 1


def test_a_sweep_speaks_in_the_words_of_the_program(cli: Cli, tmp_path: Path) -> None:
    """Hydra's own lines have a time, its name, a tab and a number sign."""
    few = ["trainer.steps=1", "trainer.sample_every=0", "trainer.eval_every=0", "logger=none", *TINY]
    result = cli("train", "-m", "seed=1,2", "run_dir=sweep", *few)
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    assert lines[0] == "a sweep of 2 runs, one after another" and "HYDRA" not in result.out + result.err
    assert [line.split()[:3] for line in lines if line.startswith("run ")] == [
        ["run", "0:", "seed=1"],
        ["run", "1:", "seed=2"],
    ]
    assert (tmp_path / "sweep/seed=2/config.json").exists()


def test_a_warning_of_hydra_is_an_ordinary_line(capsys: pytest.CaptureFixture[str]) -> None:
    record = logging.LogRecord("hydra", logging.WARNING, "", 0, "a [red]thing[/]\x1b[2J", (), None)
    console.SweepHandler().emit(record)
    assert capsys.readouterr().err == "warning: a [red]thing[/]\\x1b[2J\n"
