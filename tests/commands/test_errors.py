"""Wrong input gives one line on stderr, the right exit code, and no incomplete files."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from ..conftest import TINY, Cli


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dataset=cifar"], "dataset: there is no 'cifar'; did you mean 'cifar10'?"),
        (["dataset=nothing_like_it"], "dataset: there is no 'nothing_like_it'; choose one of celeba, cifar10"),
        (["modle=unet"], "modle: is not a key; did you mean 'model'?"),
        (["optimizer.lrr=1"], "optimizer.lrr: is not a key; did you mean 'optimizer.lr'?"),
        (["trainer.ema.dekay=1"], "trainer.ema.dekay: is not a key; did you mean 'trainer.ema.decay'?"),
        (["lr=1"], "lr: is not a key; did you mean 'optimizer.lr'?"),
        (["+trainer.stepz=1"], "trainer.stepz: is not an option; did you mean 'steps'?"),
        (["+seeed=1"], "seeed: is not an option; did you mean 'seed'?"),
        (["trainer.steps=many"], "trainer.steps: must be a whole number, got 'many'"),
        (["seed=1.5"], "seed: must be a whole number, got 1.5"),
        (["seed=-1"], "seed: must be at least 0 and below 2^62, got -1"),
        (["seed=99999999999999999999999999"], "seed: must be at least 0 and below 2^62"),
        (["run_dir="], "run_dir: is empty"),
        (["logger=foo"], "logger: there is no 'foo'; choose one of none, tensorboard, trackio, wandb"),
        (["logger.tensorboard=foo"], "logger.tensorboard: has no _target_"),
        (["optimizer.lr=-1"], "optimizer.lr: must be a positive number, got -1"),
        (["optimizer.lr=0"], "optimizer.lr: must be a positive number, got 0"),
        (["optimizer.lr=-0.0"], "optimizer.lr: must be a positive number, got -0.0"),
        (["optimizer.lr=inf"], "optimizer.lr: must be a positive number, got inf"),
        (["optimizer.lr=nan"], "optimizer.lr: must be a positive number, got nan"),
        (["optimizer=muon", "optimizer.lr=abc"], "optimizer.lr: must be a positive number, got 'abc'"),
        (["trainer.epochs=inf"], "trainer.epochs: must be a number; to train until it is stopped"),
        (["trainer.epochs=nan"], "trainer.epochs: must be positive or null, got nan"),
        (["trainer.lr_factor=nan"], "trainer.lr_factor: must be positive, got nan"),
        (["dataset._target_=builtins.dict"], "dataset._target_: builtins.dict cannot be called with options"),
        (
            ["+dataset.x=1", "dataset._target_=collections.Counter"],
            "dataset._target_: collections.Counter cannot be used",
        ),
        (["+optimizer.lrr=1"], "optimizer.lrr: is not an option; did you mean 'lr'?"),
        (
            ["optimizer=sgd", "+optimizer.momentums=1"],
            "optimizer.momentums: is not an option; did you mean 'momentum'?",
        ),
        (["~dataset._target_"], "dataset: has no _target_; choose one of the options of this config group"),
        (["model.in_channels=3"], "model.in_channels: is 3, but the dataset has 1; leave it out"),
        (["model.image_size=4"], "model.image_size: is 4, but the dataset has [8, 8]; leave it out"),
        (["model.num_classes=3"], "model.num_classes: is 3, but the dataset has 10; leave it out"),
        (["trainer.epochs=1e308"], "trainer.epochs: must be at most 1,000,000,000, got 1e+308"),
        (["trainer.batch_size=1000000000000"], "trainer.batch_size: must be at most 1,000,000, got 1000000000000"),
        (["trainer.samples=1000000000"], "trainer.samples: must be at most 1,000,000, got 1000000000"),
        (["schedule.steps=1000000000"], "schedule.steps: must be at least 1 and at most 1,000,000, got 1000000000"),
        (["optimizer.betas=[2,3]"], "optimizer.betas: must be at least 0 and below 1, got 2.0"),
        (["optimizer.eps=-1"], "optimizer.eps: must be at least 0, got -1.0"),
        (["optimizer=sgd", "optimizer.momentum=-1"], "optimizer.momentum: must be at least 0, got -1"),
        (["schedule.s=nan"], "schedule.s: must be a finite number, got nan"),
        (["objective.bound_weight=inf"], "objective.bound_weight: must be a finite number, got inf"),
        (["trainer.lr_milestones=[1,nan]"], "trainer.lr_milestones: must be a finite number, got nan"),
        (["trainer.steps=100000000000000000000000"], "trainer.steps: must be at most 4,611,686,018,427,387,904"),
        (["resume="], "resume: is empty; set true, false or the path of a run"),
        (["model=null"], "model: cannot be null; choose one of auto, "),
        (["trainer.best_by=val_loss", "dataset.val_fraction=0"], "trainer.best_by: there are no held-out images"),
        (["seed="], "seed: must be a whole number, got ''"),
        (["trainer.keep_last=1"], "trainer.keep_last: must be at least 2, got 1"),
        (["trainer.ema.decay=1"], "trainer.ema.decay: must be in [0, 1), got 1"),
        (["trainer.device=tpu"], "trainer.device: there is no device 'tpu'"),
        (["schedule.steps=0"], "schedule.steps: must be at least 1 and at most 1,000,000, got 0"),
        (["sampler.steps=2000"], "sampler.steps: must be between 1 and the schedule's 1000, got 2000"),
        (
            ["dataset.size=9"],
            "model.image_size: 9 is not divisible by 2 (patch_size 1, 2 levels); set dataset.size to 8 or 10",
        ),
        (["model.heads=5"], "model.heads: must divide the 64 channels"),
        (
            ["schedule=linear,cosine"],
            "schedule=linear,cosine: has several values; write key=[a,b] for a list, or add -m",
        ),
        (["a b"], "a b: cannot be parsed; write key=value"),
        (["--bogus"], "command line: unrecognized arguments: --bogus"),
        (["seed=${nothing}"], "seed: Interpolation key 'nothing' not found"),
    ],
)
def test_wrong_config(arguments: list[str], message: str, cli: Cli, tmp_path: Path) -> None:
    result = cli("train", *arguments)
    assert result.code == 2
    assert result.err.startswith(f"ddpm: error: {message}"), result.err
    assert result.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_resume_from_what_is_no_run(cli: Cli) -> None:
    one_error(
        cli, 4, "resume: there is no run at maybe; set true, false or", "train", "resume=maybe", "run_dir=r", *TINY
    )


def test_an_account_without_a_name(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs under an arbitrary number."""
    if not hasattr(os, "getuid"):
        pytest.skip("accounts with numbers")
    for name in ("USER", "LOGNAME", "LNAME", "USERNAME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    assert cli("train", "run_dir=r", "trainer.steps=1", *TINY).code == 0
    assert cli("sample", "ckpt=r", "n=1", "out=s", "sampler.steps=1").code == 0
    one_error(cli, 4, "~/r: does not exist", "sample", "ckpt=~/r", "out=t")


def test_typos_are_reported_without_torch(tmp_path: Path) -> None:
    """Importing it takes seconds."""
    code = (
        "import sys; from ddpm_cli.config.launch import launch\n"
        "codes = {launch('train', [a]) for a in sys.argv[1:]}\n"
        "sys.exit(codes != {2} or 'torch' in sys.modules)"
    )
    typos = [
        "+optimizer.lrr=1",
        "+schedule.stepz=1",
        "+model.chanels=3",
        "optimizer.lr=x",
        "schedule.steps=x",
        "model.x=1",
    ]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", code, *typos]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("ddpm: error: ") == len(typos)


def one_error(cli: Cli, code: int, message: str, *arguments: str) -> None:
    result = cli(*arguments)
    assert (result.code, result.err.count("\n")) == (code, 1), result
    assert result.err.startswith("ddpm: error: ") and message in result.err


def test_missing_checkpoints(cli: Cli, tmp_path: Path) -> None:
    for command in ("sample", "gif"):
        one_error(cli, 4, "outputs/latest: does not exist;", command)
        one_error(cli, 4, "nowhere: does not exist;", command, "ckpt=nowhere")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "empty").mkdir()
    one_error(cli, 4, "empty: has no checkpoints;", "sample", "ckpt=empty", "out=here")
    assert not (tmp_path / "here").exists()


def folder(cli: Cli, code: int, message: str, *more: str) -> None:
    one_error(cli, code, message, "train", "dataset=image_folder", "run_dir=run", "trainer.steps=1", *TINY, *more)


def test_bad_folders(cli: Cli, tmp_path: Path) -> None:
    folder(cli, 3, "dataset.root: is not set; set dataset.root=FOLDER")
    folder(cli, 3, "no_such: ", "dataset.root=no_such")
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    folder(cli, 3, "pictures: has no pictures", "dataset.root=pictures")
    Image.new("RGB", (40, 40)).save(pictures / "good.png")
    (pictures / "bad.png").write_text("I am no picture")
    folder(cli, 3, "bad.png: is not a readable picture", "dataset.root=pictures")
    folder(cli, 2, "model.image_size: 33 is not divisible by 4", "dataset.root=pictures", "dataset.size=33")
    assert not (tmp_path / "run").exists()


def test_a_failed_download_names_the_files_and_the_folder(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import FashionMNIST

    monkeypatch.setattr(FashionMNIST, "mirrors", ["http://127.0.0.1:9/"])
    result = cli("train", "dataset=fashion_mnist", "run_dir=run")
    assert (result.code, result.err.count("\n")) == (3, 1), result
    assert "train-images-idx3-ubyte" in result.err and "FashionMNIST/raw" in result.err
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_written(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    one_error(cli, 6, "file", "train", "run_dir=file/run")


@pytest.mark.parametrize("name", ["x" * 300, "x/" * 3000], ids=["name", "path"])
def test_a_name_that_is_too_long(name: str, cli: Cli, tmp_path: Path) -> None:
    one_error(cli, 6, "File name too long", "train", f"run_dir={name}")
    one_error(cli, 6, "File name too long", "sample", f"ckpt={name}")


def test_debug_shows_the_traceback(cli: Cli) -> None:
    result = cli("sample", "ckpt=nowhere", "debug=true")
    assert (
        result.code == 4
        and "Traceback" in result.err
        and result.err.rstrip().splitlines()[-1].startswith("ddpm: error: ")
    )


def test_a_diverging_run_is_an_error(cli: Cli, tmp_path: Path) -> None:
    result = cli(
        "train",
        "run_dir=run",
        "trainer.steps=50",
        "optimizer.lr=1e18",
        "trainer.grad_clip=null",
        "trainer.log_every=5",
        *TINY,
    )
    assert result.code == 5 and "lower optimizer.lr" in result.err
    assert re.search(r"^ddpm: error: loss: became (nan|inf) by step [1-4];", result.err, re.MULTILINE)
    assert not list((tmp_path / "run/checkpoints").glob("*")) if (tmp_path / "run/checkpoints").exists() else True


def test_a_sweep_continues_after_a_failed_job(cli: Cli, tmp_path: Path) -> None:
    result = cli("train", "-m", "schedule.steps=0,10", "sampler.steps=2", "run_dir=sweep", "trainer.steps=1", *TINY)
    assert result.code == 2
    assert "schedule.steps: must be at least 1" in result.err
    assert (
        "1 of 2 runs failed:" in result.out and "  schedule.steps=0: schedule.steps: must be at least 1" in result.out
    )
    assert not (tmp_path / "sweep/schedule.steps=0/checkpoints").exists()
    assert (tmp_path / "sweep/schedule.steps=10/checkpoints").is_dir()


def test_a_sweep_without_runs_is_an_error(cli: Cli) -> None:
    result = cli("train", "-m", "seed=glob(*)", "run_dir=sweep", "trainer.steps=1")
    assert result.code == 2 and "the sweep has no runs" in result.err
    assert cli("train", "-m", "--hydra-help").code == 0  # runs nothing either, and is right


@pytest.mark.parametrize("name", ["train.log", "metrics.jsonl"])
def test_a_log_that_cannot_be_written_does_not_end_the_run(name: str, cli: Cli, tmp_path: Path) -> None:
    """logging itself would print a traceback."""
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    assert cli("train", "run_dir=run", "trainer.steps=1", *TINY).code == 0
    (tmp_path / "run" / name).unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ddpm_cli.runs.directory.Rows.resume", lambda self, step, sealed: None)
        patch.setattr("ddpm_cli.runs.directory.check_plain", lambda *arguments: None)  # it refuses links
        (tmp_path / "run" / name).symlink_to("/dev/full")
        result = cli("train", "run_dir=run", "trainer.steps=3", "trainer.log_every=1", *TINY)
    assert result.code == 0 and "Traceback" not in result.err and "Logging error" not in result.err
    assert result.err.count(f"{name}: cannot be written (No space left on device); training goes on") == 1, result.err
    assert "finished at step 3" in result.err


def test_a_picture_that_cannot_be_written_does_not_end_the_run(cli: Cli, tmp_path: Path) -> None:
    assert cli("train", "run_dir=run", "trainer.steps=1", *TINY).code == 0
    shutil.rmtree(tmp_path / "run/samples")
    (tmp_path / "run/samples").write_text("in the way")
    result = cli("train", "run_dir=run", "trainer.steps=3", "trainer.sample_every=1", "sampler.steps=2", *TINY)
    assert result.code == 0 and result.err.count("samples: cannot be written") == 1, result.err


def test_a_damaged_metrics_file_does_not_stop_a_run(cli: Cli, tmp_path: Path) -> None:
    assert cli("train", "run_dir=run", "trainer.steps=1", "trainer.log_every=1", *TINY).code == 0
    with (tmp_path / "run/metrics.jsonl").open("ab") as file:
        file.write(b'\xff\xfe\n[1]\n{"loss": 1}\n{"step": "x"}\n{"step": 1, "lo')
    result = cli("train", "run_dir=run", "trainer.steps=2", "trainer.log_every=1", *TINY)
    assert result.code == 0, result.err
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert {row["step"] for row in rows} == {1, 2}


def test_too_many_images_and_two_ways_to_name_a_class(cli: Cli, tmp_path: Path) -> None:
    assert cli("train", "run_dir=run", "trainer.steps=1", *TINY).code == 0
    one_error(cli, 2, "n: at most 1,000,000 at a time", "sample", "ckpt=run", "n=100000000000", "out=s")
    one_error(cli, 2, "label: cannot be combined with labels", "sample", "ckpt=run", "label=1", "labels=[2]", "out=s")
    assert not (tmp_path / "s").exists()
