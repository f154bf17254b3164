"""The commands work with the differences of Windows and of macOS put in. docs/platforms.md says which these are."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ..conftest import TINY
from .simulated import Result, System, ddpm, on_linux, python

pytestmark = on_linux

BITS = ["bpd.ode_steps=2", "bpd.terms=4"]
SYSTEMS: tuple[System, ...] = ("windows", "mac")
EVERY = [f"trainer.{what}_every=2" for what in ("log", "save", "sample", "eval")]
TRAIN = ["train", "run_dir=runs/a", "sampler.steps=2", *EVERY, *TINY]
FOLDER = ["train", "dataset=image_folder", 'dataset.root="Bücher →"', "dataset.size=8", "dataset.cache=cache"]
FOLDER += ["model=unet_tiny", "trainer.steps=2", "trainer.sample_every=0", "dataset.val_fraction=0.25", *TINY]


def succeeded(results: list[Result]) -> list[Result]:
    assert [r.code for r in results] == [0] * len(results), "\n".join(r.out[-500:] + r.err for r in results if r.code)
    return results


@pytest.mark.parametrize("system", SYSTEMS)
def test_train_resume_sample_animate_evaluate_compare(system: System, tmp_path: Path) -> None:
    sample = ["sample", "n=2", "sampler.steps=2", "out=samples"]
    results = succeeded(
        ddpm(
            system,
            tmp_path,
            [*TRAIN, "trainer.steps=6"],
            [*TRAIN, "trainer.steps=12", "run_dir=outputs/latest"],  # removes the checkpoint that it resumes from
            sample,
            sample,
            ["gif", "n=2", "frames=3", "sampler.steps=3", "out=a.gif"],
            ["gif", "n=2", "frames=3", "kind=forward", "out=a.gif"],
            ["eval", "metrics=[bpd]", "n=4", *BITS, "out=evaluation"],
            ["eval", "metrics=[bpd]", "n=4", *BITS, "out=evaluation"],
            ["table", "of=[evaluation,evaluation]", "out=tables"],
        )
    )
    run = tmp_path / "runs/a"
    assert "resuming from step 6" in results[1].err
    kept = sorted(p.name for p in (run / "checkpoints").iterdir())
    assert kept == [f"step_{n:08d}.{kind}" for n in (8, 10, 12) for kind in ("json", "safetensors")]
    assert not [p for p in tmp_path.rglob("*") if p.suffix == ".part"]
    assert (tmp_path / "outputs/latest").is_file() == (system == "windows")
    facts = json.loads((tmp_path / "samples/sample.json").read_text(encoding="utf-8"))
    assert facts["checkpoint"] == "runs/a/checkpoints/step_00000012.safetensors"


def test_a_cache_of_pictures_is_made_used_and_made_again(tmp_path: Path) -> None:
    for i in range(16):
        path = tmp_path / "Bücher →" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((9, 9, 3), 16 * i, np.uint8)).save(path)
    made, reused = succeeded(ddpm("windows", tmp_path, [*FOLDER, "run_dir=a"], [*FOLDER, "run_dir=b"]))
    assert "made the cache" in made.err and "reused the cache" in reused.err
    (cache,) = (tmp_path / "cache").glob("*.npy")
    cache.write_bytes(cache.read_bytes()[:-1] + b"x")
    (damaged,) = succeeded(ddpm("windows", tmp_path, [*FOLDER, "run_dir=c"]))
    assert "is invalid" in damaged.err and "made the cache" in damaged.err
    (tmp_path / "Bücher →/a/0.png").unlink()
    (changed,) = succeeded(ddpm("windows", tmp_path, [*FOLDER, "run_dir=d"]))
    assert "made the cache" in changed.err and len(list((tmp_path / "cache").glob("*.npy"))) == 1


def test_other_models_and_sweeps(tmp_path: Path) -> None:
    small = ["trainer.steps=2", "trainer.batch_size=8", "trainer.samples=2", "trainer.eval_images=8"]
    succeeded(
        ddpm(
            "windows",
            tmp_path,
            ["train", "run_dir=classifier", "model=resnet", "model.channels=8", *small],
            ["train", "run_dir=mixture", "model=gmm", "trainer.steps=1"],
            ["train", "-m", "seed=0,1", "trainer.sample_every=0", "trainer.eval_every=0", *small, *TINY],
            ["eval", "features=classifier", "n=8", "metrics=[fd]", "out=evaluation"],
        )
    )


@pytest.mark.parametrize("system", SYSTEMS)
def test_benchmarks(system: System, tmp_path: Path) -> None:
    quick = ["windows=1", "seconds=0.1"]
    results = succeeded(
        ddpm(system, tmp_path, ["bench", "what=train", "out=a", *quick, *TINY], ["bench", "what=data", "out=b", *quick])
    )
    assert "best matrix product" in results[0].out and "at most 2 %" in results[1].out
    figures = json.loads((tmp_path / "a/bench.json").read_text(encoding="utf-8"))["figures"]
    assert ("memory" in figures) == (system == "mac")
    assert system == "windows" or 2**28 < figures["memory"]["median"] < 2**33


def test_help_and_mistakes(tmp_path: Path) -> None:
    commands = ("train", "sample", "gif", "eval", "table", "bench")
    help_texts = [["--help"], ["--version"], *([name, "--help"] for name in commands), ["train", "--cfg", "job"]]
    succeeded(ddpm("windows", tmp_path, *help_texts))
    mistakes = [["sample", 'ckpt="→"'], ["train", "run_dir=con", "trainer.steps=1", *TINY]]
    missing, reserved = ddpm("windows", tmp_path, *mistakes)
    assert missing.code == 4 and "\\u2192: does not exist" in missing.err
    assert reserved.code == 6 and reserved.err.startswith("ddpm: error:") and "con: " in reserved.err


def test_a_process_of_its_own(tmp_path: Path) -> None:
    """As users start it: `ddpm` is `python -m ddpm_cli`."""
    process = python("windows", tmp_path, "-m", "ddpm_cli", *TRAIN, "trainer.steps=2", 'run_dir="my runs"')
    assert process.returncode == 0, process.stderr
    assert """ddpm sample "ckpt='my runs'\"""" in process.stdout


def test_the_memory_is_known_on_macos_and_not_on_windows(tmp_path: Path) -> None:
    code = "from ddpm_cli.hardware.memory import host_memory; print(host_memory())"
    assert int(python("mac", tmp_path, "-c", code).stdout) > 2**28
    assert python("windows", tmp_path, "-c", code).stdout == "None\n"


@pytest.fixture
def held(tmp_path: Path) -> Callable[[str], Result]:
    """Runs code in a simulated Windows; returns its result."""

    def run(code: str) -> Result:
        process = python("windows", tmp_path, "-c", code)
        return Result(process.returncode, process.stdout, process.stderr)

    return run


def test_a_file_in_use_for_a_moment_is_replaced_later(held: Callable[[str], Result], tmp_path: Path) -> None:
    """A virus scanner opens every new file; here a thread of the same process does."""
    result = held(
        "import threading; from pathlib import Path; from ddpm_cli.files import write_json\n"
        "write_json(Path('a.json'), 1); file = open('a.json', 'rb'); threading.Timer(0.5, file.close).start()\n"
        "write_json(Path('a.json'), 2)"
    )
    assert result.code == 0, result.err
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == 2


def test_a_file_in_use_is_left_as_it_was(held: Callable[[str], Result], tmp_path: Path) -> None:
    result = held(
        "from pathlib import Path; from ddpm_cli import files; files.PATIENCE = 0.1\n"
        "files.write_json(Path('a.json'), 1); file = open('a.json', 'rb'); files.write_json(Path('a.json'), 2)"
    )
    assert result.code == 1 and "PermissionError" in result.err
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_picture_in_use_ends_the_command_with_advice(held: Callable[[str], Result], tmp_path: Path) -> None:
    assert python("windows", tmp_path, "-m", "ddpm_cli", *TRAIN, "trainer.steps=2").returncode == 0
    draw = ["sample", "n=2", "sampler.steps=2", "out=samples"]
    assert python("windows", tmp_path, "-m", "ddpm_cli", *draw).returncode == 0
    result = held(
        "import sys; from ddpm_cli import files; from ddpm_cli.cli import main; files.PATIENCE = 0.1\n"
        "viewer = open('samples/grid.png', 'rb')\n"
        "sys.argv = ['ddpm', 'sample', 'n=2', 'sampler.steps=2', 'out=samples']; main()"
    )
    assert result.code == 6 and "grid.png: The process cannot access the file" in result.err
    assert result.err.rstrip().endswith("; close that program, then run the same command again")


def test_a_checkpoint_in_use_stays_until_the_next_one(held: Callable[[str], Result], tmp_path: Path) -> None:
    result = held(
        "from pathlib import Path; import torch; from ddpm_cli.runs import checkpoint, retention\n"
        "here, more = Path(), {'seconds': 0, 'config': {}}\n"
        "for step in (1, 2, 3):\n"
        "    checkpoint.save(here, step, {'model.w': torch.ones(3)}, more)\n"
        "reader = open('step_00000001.safetensors', 'rb')\n"
        "retention.prune(here, 3, 1); print(checkpoint.steps_in(here))\n"
        "checkpoint.load(here / 'step_00000001.json')\n"
        "reader.close(); retention.prune(here, 3, 1); print(len(list(here.iterdir())))"
    )
    assert result.code == 0, result.err
    assert result.out.splitlines() == ["{1, 3}", "2"]
    assert "trying again after the next checkpoint" in result.err
