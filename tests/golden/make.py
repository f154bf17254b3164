"""Runs, samples, evaluations and resumed weights of small models: what `test_golden` compares later versions with.

    PYTHONPATH=CHECKOUT python tests/golden/make.py

with the checkout of the version whose files are to be kept. Those here were made at commit e0f34d2, the last one before
the commands became a library. Kernels are held to AVX2, so that most processors compute the same.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "OMP_NUM_THREADS": "1",
}
QUIET = ["trainer.sample_every=0", "logger=none", "trainer.precision=fp32", "trainer.log_every=2"]
UNET = ["model.channels=8", "model.multipliers=[1]", "trainer.batch_size=8", "sampler.steps=3"]
TRAIN = {
    "digits": [*UNET, "model.dropout=0.2", "trainer.eval_every=4"],
    "vae_conv": ["model=vae_conv", "model.channels=8", "model.multipliers=[1]", "model.latent=4",
                 "model.prior_components=3", "trainer.batch_size=64", "trainer.eval_every=4"],
    "gmm": ["model=gmm", "model.components=3", "model.dimensions=8"],
    "resnet": ["model=resnet", "model.channels=8", "model.multipliers=[1,2]", "model.blocks=1",
               "trainer.batch_size=32", "trainer.eval_every=2", "trainer.best_by=val_accuracy"],
    "unet_classifier": ["model=unet_classifier", "model.channels=8", "trainer.batch_size=16", "trainer.eval_every=4",
                        "objective.noisy=false"],
}  # fmt: skip
STEPS, MORE = 4, 6
EVAL = ["n=16", "bpd.steps=6", "bpd.ode_steps=2", "bpd.importance_samples=3"]


def ddpm(folder: Path, *arguments: str) -> None:
    command = [sys.executable, "-c", "from ddpm_cli.cli import main; main()", *arguments]
    done = subprocess.run(command, cwd=folder, env=os.environ | AVX2, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (arguments, done.stderr)


def train(folder: Path, name: str, steps: int) -> None:
    ddpm(folder, "train", f"run_dir={name}", *QUIET, *TRAIN[name], f"trainer.steps={steps}")


def outcome(folder: Path, name: str) -> None:
    """Samples (of what draws) and an evaluation of the run `name` into `folder`; all before any of the runs goes on."""
    if name in ("digits", "vae_conv", "gmm"):
        sampler = ["sampler=ddpm", "sampler.steps=4"] if name == "digits" else []
        ddpm(folder, "sample", f"ckpt={name}", "n=6", "seed=3", "precision=fp32", f"out={name}_samples", *sampler)
    if name == "digits":
        guided = ["guidance=classifier", "guidance.classifier=unet_classifier", "label=3", "sampler.steps=3"]
        ddpm(folder, "sample", f"ckpt={name}", "n=4", "precision=fp32", f"out={name}_guided", *guided)
    ddpm(folder, "eval", f"ckpt={name}", f"out={name}_eval", *EVAL)


def machine() -> dict[str, str]:
    """Where results must be equal to the last bit."""
    import torch

    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    facts = dict(line.split(":", 1) for line in info.partition("\n\n")[0].splitlines() if ":" in line)
    known = {k.strip(): v.strip() for k, v in facts.items()}
    names = [known.get(name, "") for name in ("model name", "cpu family", "model")]
    return {"processor": " ".join(names) if info else platform.processor(), "torch": torch.__version__}


def numbers(evaluation: dict[str, Any]) -> dict[str, float]:
    """The values of an eval.json."""
    found = {f"bits/{name}": value["mean"] for name, value in evaluation.get("bits_per_dim", {}).items()}
    return found | {name: value["value"] for name, value in evaluation.get("figures", {}).items()}


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name in TRAIN:
            train(folder, name, STEPS)
            shutil.rmtree(HERE / name, ignore_errors=True)
            kept = HERE / name / "run"
            (kept / "checkpoints").mkdir(parents=True)
            for file in ("config.json", "metrics.jsonl", *(f"checkpoints/step_{STEPS:08d}.{s}" for s in SUFFIXES)):
                shutil.copy(folder / name / file, kept / file)
        for name in TRAIN:
            outcome(folder, name)
        for name in TRAIN:
            train(folder, name, MORE)
            for kind in ("samples", "guided"):
                if (folder / f"{name}_{kind}").is_dir():
                    shutil.copy(folder / f"{name}_{kind}/samples.npz", HERE / name / f"{kind}.npz")
            found = json.loads((folder / f"{name}_eval/eval.json").read_text())
            (HERE / name / "eval.json").write_text(json.dumps(numbers(found), indent=2) + "\n")
            last = f"checkpoints/step_{MORE:08d}.safetensors"
            shutil.copy(folder / name / last, HERE / name / "resumed.safetensors")
    (HERE / "machine.json").write_text(json.dumps(machine(), indent=2) + "\n")


SUFFIXES = ("safetensors", "json")

if __name__ == "__main__":
    main()
