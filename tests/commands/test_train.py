"""ddpm train from end to end on real digits: learning, files, resume."""

import json
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from ..conftest import TINY, Cli

Program = Callable[..., subprocess.Popen[str]]
QUIET = ["trainer.sample_every=0", "trainer.eval_every=0", "logger=none"]


def rows(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def same_tensors(a: Path, b: Path) -> bool:
    one, two = load_file(a), load_file(b)
    return one.keys() == two.keys() and all(one[k].equal(two[k]) for k in one)


def test_the_loss_falls_on_digits(cli: Cli, tmp_path: Path) -> None:
    """An untrained network predicts 0, so its loss is the variance of v, near 0.8; a trained one has far less."""
    result = cli(
        "train",
        "run_dir=run",
        "trainer.steps=150",
        "trainer.sample_every=0",
        "trainer.log_every=10",
        "trainer.eval_every=150",
    )
    assert result.code == 0, result.err
    loss = [row["loss"] for row in rows(tmp_path / "run") if "loss" in row]
    assert len(loss) == 15 and loss[0] > 0.6
    assert sum(loss[-3:]) / 3 < 0.4
    assert rows(tmp_path / "run")[-1]["val_loss"] < 0.4


def test_the_run_directory_has_the_documented_files(cli: Cli, tmp_path: Path) -> None:
    every = [f"trainer.{what}_every=2" for what in ("log", "save", "sample", "eval")]
    result = cli("train", "run_dir=run", "trainer.steps=4", *every, "sampler.steps=2", *TINY)
    assert result.code == 0, result.err
    run = tmp_path / "run"
    names = sorted(str(p.relative_to(run)) for p in run.rglob("*") if p.is_file() and "tfevents" not in p.name)
    steps = [f"step_{n:08d}" for n in (2, 4)]
    expected = ["config.json", "metrics.jsonl", "train.log", *(f"samples/{s}.png" for s in steps)]
    expected += [f"checkpoints/{s}.{kind}" for s in steps for kind in ("json", "safetensors")]
    assert [n for n in names if n not in (".lock", ".saved")] == sorted(expected) and (run / ".saved").exists()
    assert len(list((run / "tensorboard").glob("*tfevents*"))) == 1
    assert (tmp_path / "outputs/latest").resolve() == run
    config = json.loads((run / "config.json").read_text())
    assert config["model"]["in_channels"] == 1 and config["trainer"]["steps"] == 4  # resolved
    first = rows(run)[0]
    assert {"step", "loss", "lr", "grad_norm", "images_per_second", "seconds"} <= first.keys()
    manifest = json.loads((run / "checkpoints/step_00000004.json").read_text())
    assert {"size", "sha256", "format", "config", "versions", "step"} <= manifest.keys()
    prefixes = {name.split(".")[0] for name in load_file(run / "checkpoints/step_00000004.safetensors")}
    assert prefixes == {"model", "ema", "optimizer"}


@pytest.mark.parametrize(
    "more",
    [
        [],
        ["model.dropout=0.3", "dataset.flip=true", "trainer.precision=bf16", "optimizer=adamw"],
        ["model=unet_small", "dataset.size=16", "model.channels=32", "trainer.precision=bf16", "optimizer=muon"],
    ],
)
def test_four_steps_equal_two_steps_and_two_resumed_steps(more: list[str], cli: Cli, tmp_path: Path) -> None:
    common = [*TINY, *QUIET, *more, "trainer.warmup_steps=3"]
    assert cli("train", "run_dir=whole", "trainer.steps=4", *common).code == 0
    assert cli("train", "run_dir=parts", "trainer.steps=2", *common).code == 0
    assert cli("train", "run_dir=parts", "trainer.steps=4", *common).code == 0
    name = "checkpoints/step_00000004.safetensors"
    assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()
    assert not same_tensors(tmp_path / "parts" / name, tmp_path / "parts/checkpoints/step_00000002.safetensors")


@pytest.mark.parametrize("decay", [0.9, 0])
def test_validation_and_samples_do_not_change_training(decay: float, cli: Cli, tmp_path: Path) -> None:
    """Without an average, the network in training is also the one that is validated and draws samples."""
    common = ["trainer.steps=4", *TINY, *QUIET, "model.dropout=0.2", f"trainer.ema.decay={decay}"]
    assert cli("train", "run_dir=plain", *common).code == 0
    often = [
        "trainer.sample_every=1",
        "trainer.eval_every=1",
        "trainer.save_every=1",
        "trainer.log_every=1",
        "sampler=ddpm",
        "sampler.steps=3",
    ]
    assert cli("train", "run_dir=validated", *common, *often).code == 0
    name = "checkpoints/step_00000004.safetensors"
    assert (tmp_path / "plain" / name).read_bytes() == (tmp_path / "validated" / name).read_bytes()


def test_micro_batches_give_the_same_step(cli: Cli, tmp_path: Path) -> None:
    """Same images, times and noise; only the order of additions differs."""
    common = [*TINY, *QUIET, "trainer.steps=2", "trainer.precision=fp32"]
    assert cli("train", "run_dir=whole", *common).code == 0
    assert cli("train", "run_dir=parts", "trainer.micro_batch_size=3", *common).code == 0
    name = "checkpoints/step_00000002.safetensors"
    whole, parts = load_file(tmp_path / "whole" / name), load_file(tmp_path / "parts" / name)
    memory = [k for k in whole if k.endswith("exp_avg")]
    assert memory and all(whole[k].allclose(parts[k], atol=1e-5) for k in memory)
    assert any(whole[k].abs().max() > 1e-4 for k in memory)


def test_a_finished_run_is_reported_and_left_alone(cli: Cli, tmp_path: Path) -> None:
    arguments = ["run_dir=run", "trainer.steps=2", *TINY, *QUIET]
    assert cli("train", *arguments).code == 0
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*") if p.name != ".lock"}
    again = cli("train", *arguments)
    assert again.code == 0 and "already finished" in again.out
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*") if p.name != ".lock"}


def test_settings_that_cannot_change_on_resume(cli: Cli) -> None:
    arguments = ["run_dir=run", *TINY, *QUIET]
    assert cli("train", *arguments, "trainer.steps=2").code == 0
    changes = {
        "schedule=linear": "schedule: is 'LinearSchedule', but run/checkpoints/step_00000002.safetensors was trained "
        "with 'CosineSchedule'; set another run_dir",
        "objective.target._target_=ddpm_cli.diffusion.target.X0": "objective.",
        "model.blocks=2": "model.blocks",
    }
    for change, key in (changes | {"optimizer=adamw": "optimizer: is 'AdamW'"}).items():
        result = cli("train", *arguments, "trainer.steps=4", change)
        assert result.code == 2 and result.err.startswith(f"ddpm: error: {key}"), result.err
    result = cli("train", *arguments, "resume=false")
    assert result.code == 2 and "run already has checkpoints" in result.err
    warned = cli("train", *arguments, "trainer.steps=3", "seed=5")
    assert warned.code == 0 and "seed 0 -> 5" in warned.err


def test_resume_from_another_run(cli: Cli, tmp_path: Path) -> None:
    common = [*TINY, *QUIET]
    assert cli("train", "run_dir=a", "trainer.steps=2", *common).code == 0
    assert cli("train", "run_dir=b", "trainer.steps=4", "resume=a", *common).code == 0
    assert cli("train", "run_dir=c", "trainer.steps=4", *common).code == 0
    name = "checkpoints/step_00000004.safetensors"
    assert (tmp_path / "b" / name).read_bytes() == (tmp_path / "c" / name).read_bytes()


def test_max_seconds_counts_all_sessions(cli: Cli, tmp_path: Path) -> None:
    arguments = ["run_dir=run", "trainer.steps=100000", "trainer.max_seconds=2", *TINY, *QUIET]
    assert cli("train", *arguments).code == 0
    assert rows(tmp_path / "run")[-1]["seconds"] >= 2
    assert "already finished" in cli("train", *arguments).out


def test_metrics_beyond_the_checkpoint_are_dropped(cli: Cli, tmp_path: Path) -> None:
    arguments = ["run_dir=run", *TINY, *QUIET, "trainer.log_every=1"]
    assert cli("train", *arguments, "trainer.steps=2").code == 0
    with (tmp_path / "run/metrics.jsonl").open("a") as file:  # as a killed process leaves it
        file.write('{"step": 3, "loss": 9.0}\n{"step": 4, "lo')
    assert cli("train", *arguments, "trainer.steps=3").code == 0
    assert [row["step"] for row in rows(tmp_path / "run")] == [1, 2, 3]


def test_best_by_keeps_the_best(cli: Cli, tmp_path: Path) -> None:
    often = ["trainer.best_by=val_loss", "trainer.eval_every=5", "trainer.save_every=1", "trainer.keep_last=2"]
    arguments = [*often, "trainer.steps=8", "trainer.sample_every=0", "logger=none"]
    assert cli("train", "run_dir=run", *TINY, *arguments).code == 0
    val = {row["step"]: row["val_loss"] for row in rows(tmp_path / "run") if "val_loss" in row}
    best = min(val, key=lambda step: val[step])
    kept = {int(p.stem.removeprefix("step_")) for p in (tmp_path / "run/checkpoints").glob("*.json")}
    assert kept == {7, 8} | {best}


def test_a_sweep_writes_complete_runs(cli: Cli, tmp_path: Path) -> None:
    result = cli("train", "-m", "schedule=linear,cosine", "trainer.steps=2", *TINY, *QUIET)
    assert result.code == 0, result.err
    runs = sorted((p.parent for p in (tmp_path / "outputs/multirun").rglob("config.json")), reverse=True)
    assert [run.name for run in runs] == ["schedule=linear", "schedule=cosine"]
    targets = [json.loads((run / "config.json").read_text())["schedule"]["_target_"].rpartition(".")[2] for run in runs]
    assert targets == ["LinearSchedule", "CosineSchedule"]
    assert all((run / "checkpoints/step_00000002.json").is_file() for run in runs)


def test_the_same_sweep_again_resumes_its_runs(cli: Cli, tmp_path: Path) -> None:
    sweep = ["train", "-m", "seed=1,2", "run_dir=sweep", *TINY, *QUIET]
    assert cli(*sweep, "trainer.steps=2").code == 0
    again = cli(*sweep, "trainer.steps=4")
    assert again.code == 0 and again.err.count("resuming from step 2 of 4") == 2, again.err
    assert cli(*sweep, "trainer.steps=4").out.count("already finished") == 2
    assert sorted(p.name for p in (tmp_path / "sweep").iterdir() if p.is_dir()) == ["seed=1", "seed=2"]
    drawn = ["sample", "-m", "ckpt=sweep/seed=1,sweep/seed=2", "n=2", "sampler.steps=2", "seed=3", "out=drawn"]
    for _ in range(2):
        assert cli(*drawn).code == 0
    folders = sorted(p.name for p in (tmp_path / "drawn").iterdir() if p.is_dir())
    assert [re.sub("[0-9a-f]{8}$", "", name) for name in folders] == ["ckpt=sweep-seed=1-", "ckpt=sweep-seed=2-"]


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    for _ in range(600):
        if path.exists():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    raise AssertionError(f"{path} did not appear")


def test_a_killed_and_resumed_run_equals_an_uninterrupted_one(cli: Cli, program: Program, tmp_path: Path) -> None:
    common = [
        "train",
        "trainer.steps=60",
        "trainer.save_every=5",
        "trainer.log_every=5",
        *TINY,
        *QUIET,
        "model.dropout=0.1",
    ]
    process = program(*common, "run_dir=killed", "trainer.steps=100000")
    wait_for(tmp_path / "killed/checkpoints/step_00000010.json", process)
    busy = cli(*common, "run_dir=killed")
    assert busy.code == 8 and "killed: another process is training here" in busy.err
    process.kill()
    process.communicate()
    newest = max(int(p.stem.removeprefix("step_")) for p in (tmp_path / "killed/checkpoints").glob("*.json"))
    total = newest + 7
    assert cli(*common, "run_dir=killed", f"trainer.steps={total}").code == 0
    assert cli(*common, "run_dir=whole", f"trainer.steps={total}").code == 0
    name = f"checkpoints/step_{total:08d}.safetensors"
    assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    whole, killed = (
        [
            {k: row[k] for k in ("step", "loss", "grad_norm", "lr")}
            for row in rows(tmp_path / run)
            if row["step"] % 5 == 0
        ]
        for run in ("whole", "killed")
    )
    assert whole == killed


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_stops(number: signal.Signals, code: int, program: Program, tmp_path: Path) -> None:
    process = program(
        "train", "run_dir=run", "trainer.steps=100000", "trainer.save_every=0", "trainer.log_every=1", *TINY, *QUIET
    )
    wait_for(tmp_path / "run/metrics.jsonl", process)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert "stopped and saved at step" in err.splitlines()[-1] and "Traceback" not in err
    assert len(list((tmp_path / "run/checkpoints").glob("*.json"))) == 1


def test_classes_are_those_of_the_folder(cli: Cli, tmp_path: Path) -> None:
    """The network is built for the number of classes found in the folder, also when resuming."""
    for name in ("cats", "dogs", "emus"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(4):
            Image.new("L", (16, 16), 20 * i).save(tmp_path / "pictures" / name / f"{i}.png")
    data = ["dataset=image_folder", "dataset.root=pictures", "dataset.size=8", "model=unet_tiny"]
    arguments = ["run_dir=run", *data, *TINY, *QUIET]
    for steps in (1, 2):
        result = cli("train", *arguments, f"trainer.steps={steps}")
        assert result.code == 0, result.err
    manifest = json.loads((tmp_path / "run/checkpoints/step_00000002.json").read_text())
    assert manifest["about"]["class_names"] == ["cats", "dogs", "emus"]
    assert manifest["config"]["model"]["num_classes"] == 3
    result = cli("sample", "label=dogs", "n=2", "sampler.steps=2", "out=s")
    assert result.code == 0, result.err


def test_a_cache_does_not_change_the_weights(cli: Cli, tmp_path: Path) -> None:
    """A run that started without a cache resumes with one bit for bit, and logs where the cache is."""
    generator = np.random.default_rng(0)
    (tmp_path / "pictures").mkdir()
    for i in range(24):
        Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(tmp_path / f"pictures/{i}.png")
    data = ["dataset=image_folder", "dataset.root=pictures", "dataset.size=8", "model=unet_tiny", *QUIET, *TINY]
    assert cli("train", "run_dir=a", "trainer.steps=4", "dataset.cache=false", *data).code == 0
    assert cli("train", "run_dir=b", "trainer.steps=2", "dataset.cache=false", *data).code == 0
    result = cli("train", "run_dir=b", "trainer.steps=4", "dataset.cache=kept", *data)
    assert result.code == 0 and "resuming with changed settings" not in result.out
    assert same_tensors(*(tmp_path / run / "checkpoints/step_00000004.safetensors" for run in "ab"))
    (made,) = [line for line in (tmp_path / "b/train.log").read_text().splitlines() if "the cache" in line]
    assert f"made the cache kept/{next((tmp_path / 'kept').glob('*.npy')).name} (24 pictures" in made
    cli("train", "run_dir=c", "trainer.steps=1", "dataset.cache=kept", *data)
    assert "reused the cache kept/" in (tmp_path / "c/train.log").read_text()
