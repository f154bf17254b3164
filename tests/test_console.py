"""The output of a run without a terminal."""

import pytest

from ddpm_cli import console


def test_slow_steps_print_progress_between_log_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    view = console.TrainingView()
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
