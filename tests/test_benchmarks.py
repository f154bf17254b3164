"""The programs in benchmarks/ run with today's package; what they measure is theirs to report."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

FOLDER = Path(__file__).parents[1] / "benchmarks"
PROGRAMS = sorted(p.name for p in FOLDER.glob("*.py") if "__main__" in p.read_text(encoding="utf-8"))


@pytest.mark.parametrize("program", PROGRAMS)
def test_each_explains_its_options(program: str) -> None:
    help_ = subprocess.run([sys.executable, str(FOLDER / program), "--help"], capture_output=True, text=True)
    assert help_.returncode == 0 and "usage:" in help_.stdout, help_.stderr


def test_what_they_time_trains_and_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    from composed import Composed, random_images

    from ddpm_cli.diffusion.generate import generate

    images = random_images(8, 1, 8, classes=3)
    small = [
        "model.channels=8",
        "model.multipliers=[1,2]",
        "trainer.batch_size=4",
        "trainer.device=cpu",
        "model.num_classes=null",
    ]
    composed = Composed(["dataset=digits", *small], images)
    assert composed.config["model"]["num_classes"] == 3
    training = composed.training()
    before = [p.clone() for p in training.state.parameters]
    training.step(next(images.batches(4, 0, 0, composed.device)))
    assert any(not torch.equal(a, b) for a, b in zip(before, training.state.parameters, strict=True))
    labels = torch.zeros(2, dtype=torch.int64)
    (samples,) = generate(composed.frozen(), composed.sampler(steps=2), (1, 8, 8), range(2), labels)
    assert samples.shape == (2, 1, 8, 8) and bool(samples.isfinite().all())


def test_the_gpu_benchmark_runs_tiny_on_a_cpu(tmp_path: Path) -> None:
    for i, label in enumerate(["one", "two"] * 12):
        file = tmp_path / "pictures" / label / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = torch.randint(0, 256, (32, 32, 3), dtype=torch.uint8).numpy()
        Image.fromarray(pixels).save(file)
    shutil.make_archive(str(tmp_path / "pictures"), "gztar", tmp_path / "pictures")
    arguments = [
        "--tiny",
        "--device",
        "cpu",
        "--pictures",
        str(tmp_path / "pictures.tar.gz"),
        "--out",
        str(tmp_path / "gpu"),
    ]
    done = subprocess.run(
        [sys.executable, str(FOLDER / "gpu.py"), *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(FOLDER.parent)},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert not [name for name, value in found.items() if isinstance(value, dict) and "failed" in value], found
    assert found["resume"]["bit_for_bit"] and found["train_eager"]["images_per_second"] > 0
    assert found["diffusers"]["images_per_second"] > 0 and found["real"]["step"] > 0
    assert (tmp_path / "gpu-run/samples/grid.png").is_file() and "| training, `trainer.compile=false` |" in (
        tmp_path / "gpu.md"
    ).read_text()
