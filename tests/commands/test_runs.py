"""`ddpm runs`, and sweeps with other launchers and sweepers than Hydra's own."""

import csv
import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from ddpm_cli.runs.asked import Asked
from tests.conftest import TINY, Cli, slow

QUICK = [*TINY, "trainer.sample_every=0", "logger=none", "trainer.steps=2"]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def swept(cli: Cli) -> Cli:
    result = cli("train", "-m", "seed=1,2", "optimizer.lr=-1,1e-3", "run_dir=s", *QUICK)
    assert result.code == 2 and "4 runs: 2 failed, 2 finished" in result.out
    return cli


def test_a_sweep_ends_with_a_table_of_its_runs(swept: Cli, tmp_path: Path) -> None:
    board = rows(tmp_path / "s/leaderboard.csv")
    assert [(row["run"], row["state"]) for row in board] == [
        ("s/seed=1_optimizer.lr=-1", "failed"),
        ("s/seed=1_optimizer.lr=0.001", "finished"),
        ("s/seed=2_optimizer.lr=-1", "failed"),
        ("s/seed=2_optimizer.lr=0.001", "finished"),
    ]
    assert [row["seed"] for row in board] == ["1", "1", "2", "2"] and float(board[1]["val_loss"]) > 0
    assert board[0]["reason"] == "optimizer.lr: must be a positive number, got -1" and board[1]["step"] == "2"


def test_runs_are_chosen_and_sorted(swept: Cli, tmp_path: Path) -> None:
    def names(*arguments: str) -> list[str]:
        result = swept("runs", "s", *arguments, "out=board")
        assert result.code == 0, result.err
        return [row["run"].removeprefix("s/") for row in rows(tmp_path / "board/leaderboard.csv")]

    assert names("where=state=failed", "sort=-seed") == ["seed=2_optimizer.lr=-1", "seed=1_optimizer.lr=-1"]
    assert names("where=[seed=1,state!=failed]") == ["seed=1_optimizer.lr=0.001"]
    assert names("where=optimizer.lr=1e-3", "sort=seed")[0] == "seed=1_optimizer.lr=0.001"
    assert names("where=val_loss>0", "sort=val_loss") == sorted(
        names("where=val_loss>0"), key=lambda name: json.loads(last(tmp_path / "s" / name))["val_loss"]
    )
    assert names("where=val_loss<0") == []
    wrong = swept("runs", "s", "where=colour=red")
    assert wrong.code == 2 and "where: no run has colour; use run, state, step, seconds" in wrong.err
    assert "sort: no run has colour" in swept("runs", "s", "sort=colour").err
    assert "where: seed is no condition" in swept("runs", "s", "where=seed").err


def last(run: Path) -> str:
    return [line for line in (run / "metrics.jsonl").read_text().splitlines() if "val_loss" in line][-1]


@slow
def test_several_folders_and_a_contact_sheet(swept: Cli, tmp_path: Path) -> None:
    assert swept("train", "run_dir=other/x", "seed=5", *QUICK).code == 0
    assert "5 runs: 2 failed, 3 finished" in swept("runs", "s", "other").out
    result = swept("runs", "s", "other", "out=board", "samples=3")
    assert result.code == 0 and "3 runs from the same noise in board/contact.png" in result.out, result.err
    with Image.open(tmp_path / "board/contact.png") as sheet:
        assert sheet.mode == "RGB" and sheet.height > sheet.width / 3
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/leaderboard.csv").write_text("mine")
    refused = swept("runs", "s", "out=mine")
    assert refused.code == 2 and (tmp_path / "mine/leaderboard.csv").read_text() == "mine"
    assert swept("runs", "s", "samples=3").code == 2 and swept("runs", "nowhere").code == 2


@slow
def test_the_table_of_a_sweep_never_replaces_a_file_of_the_user(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s/leaderboard.csv").write_text("mine")
    result = cli("train", "-m", "seed=1,2", "run_dir=s", *QUICK)
    assert (tmp_path / "s/leaderboard.csv").read_text() == "mine" and "did not write" in result.out + result.err
    assert result.code == 0


def test_states(program: Callable[..., "subprocess.Popen[str]"], cli: Cli, tmp_path: Path) -> None:
    process = program("train", "run_dir=a", *TINY, "trainer.steps=100000", "trainer.save_every=5", "logger=none")
    for _ in range(600):
        if list((tmp_path / "a/checkpoints").glob("*.json")):
            break
        time.sleep(0.1)
    assert "1 run: 1 running" in cli("runs", "a").out
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert "1 run: 1 stopped" in cli("runs", "a").out
    Asked({}, {}, frozenset(), 137, "ended by SIGKILL").write(tmp_path / "b")
    Asked({}, {}, frozenset(), 130, "").write(tmp_path / "c")
    Asked({}, {}, frozenset()).write(tmp_path / "d")
    result = cli("runs", ".")
    assert "4 runs: 1 stopped, 1 failed, 2 no checkpoint" in result.out and "b: ended by SIGKILL" in result.out


@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", ".job.json", "checkpoints/step_00000002.json"])
@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"config": {"trainer": 3, "model": [1]}, "step": "x", "best": 1}', "\0"]
)
def test_damaged_files_are_no_error(name: str, text: str, cli: Cli, tmp_path: Path) -> None:
    run = tmp_path / "s/seed=1"
    assert cli("train", "run_dir=s/seed=1", *QUICK).code == 0
    Asked(json.loads((run / "config.json").read_text()), {"seed": "1"}, frozenset({"seed"}), 0).write(run)
    (run / name).write_text(text)
    result = cli("runs", "s")
    assert result.code == 0 and "1 run: 1" in result.out, result.err


@pytest.mark.parametrize(
    "line",
    ['{"step":4,"seconds":NaN}', '{"step":4,"seconds":Infinity}', f'{{"step":4,"loss":{"9" * 400}}}',
     '{"step":4,"a\\ud800b":1.0}'],
)  # fmt: skip
def test_rows_that_no_run_writes(line: str, cli: Cli, tmp_path: Path) -> None:
    assert cli("train", "run_dir=s", *QUICK).code == 0
    with (tmp_path / "s/metrics.jsonl").open("a") as file:
        file.write(line + "\n")
    (tmp_path / "\udcff").mkdir()
    Asked({}, {}, frozenset(), 5, "x\ud800").write(tmp_path / "\udcff/b")
    result = cli("runs", ".", "out=board")
    assert result.code == 0 and "2 runs: " in result.out, result.err


@slow
def test_stopped_parallel_runs_save(program: Callable[..., "subprocess.Popen[str]"], cli: Cli, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    long = [a for a in QUICK if not a.startswith("trainer.steps")]
    process = program("train", "-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "seed=1,2,3", "run_dir=s",
                      *long, "trainer.steps=1000000")  # fmt: skip
    logs = [tmp_path / f"s/seed={seed}/metrics.jsonl" for seed in (1, 2)]
    for _ in range(600):
        if all(log.exists() and log.read_text() for log in logs):
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 143, err
    assert all(list(log.parent.glob("checkpoints/*.json")) for log in logs)
    assert "running" not in cli("runs", "s").out and not list((tmp_path / "s").glob(".sweep*"))


def test_runs_in_parallel(cli: Cli, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    result = cli("train", "-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "seed=1,2", "optimizer.lr=-1,1e-3",
                 "run_dir=s", *QUICK)  # fmt: skip
    assert result.code == 2 and "4 runs: 2 failed, 2 finished" in result.out, result.err
    assert "seed=2 optimizer.lr=-1: optimizer.lr: must be a positive number" in result.out
    again = cli("train", "-m", "hydra/launcher=joblib", "seed=1,2", "optimizer.lr=1e-3", "run_dir=s", *QUICK)
    assert again.code == 0 and again.out.count("already finished") == 2


@slow
def test_runs_on_slurm_with_the_local_executor(cli: Cli, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    result = cli("train", "-m", "hydra/launcher=submitit_local", "seed=1,2", "run_dir=s", *QUICK)
    assert result.code == 0 and "2 runs: 2 finished" in result.out, result.err
    assert len(rows(tmp_path / "s/leaderboard.csv")) == 2


@slow
@pytest.mark.filterwarnings("ignore")
def test_optuna_improves_a_logged_metric_and_goes_on(cli: Cli, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    command = ["train", "-m", "hydra/sweeper=optuna", "optimizer.lr=interval(1e-4,1e-2)", "hydra.sweeper.n_trials=2",
               "hydra.sweeper.n_jobs=1", "hydra.sweeper.study_name=x", "hydra.sweeper.storage=sqlite:///x.db",
               "run_dir=o", *QUICK]  # fmt: skip
    for times in (1, 2):
        result = cli(*command, "sweep_metric=val_loss")
        assert result.code == 0, result.err
        assert len(rows(tmp_path / "o/leaderboard.csv")) == 2 * times
    best = min(float(row["val_loss"]) for row in rows(tmp_path / "o/leaderboard.csv"))
    assert f"best_value: {best}" in (tmp_path / "o/optimization_results.yaml").read_text()
    assert "sweep_metric: is not set" in cli(*command).err
