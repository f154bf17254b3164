"""A GPU in one command: speed of the CIFAR-10 network, beside diffusers, exactness, and a real run of three minutes.

    python benchmarks/gpu.py --pictures cifar10.npz --out docs/gpu       # under 8 minutes on one H100
    python benchmarks/gpu.py --tiny --device cpu --out outputs/gpu       # the same, tiny, on a CPU

cifar10.npz holds the training pictures as one uint8 array (N,32,32,3) named `pixels`, with `labels` (N,); without it
the real run uses scikit-learn's digits. What is measured:

- images/s of training and of sampling steps, for plain and compiled code and for CUDA graphs, the share of the best
  bf16 matrix product, and peak memory; the training step of diffusers' UNet2DModel in the same process;
- whether a resumed run is bit for bit the run that was not interrupted;
- how far the first 50 losses of the compiled and of the plain network lie apart;
- the samples of a run with trainer.budget.

Writes OUT.json and OUT.md after each part, so that a run that is cut off leaves what it has measured; samples and the
run lie in OUT-run.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from composed import Composed, Training, random_images
from PIL import Image

from ddpm_cli.bench.machine import machine
from ddpm_cli.hardware.formats import described

NETWORK = ["dataset=cifar10", "model=unet"]
TINY = ["model.channels=32", "model.blocks=1", "model.attention_resolutions=[]"]
STEPS = 800_000
"""Optimizer steps of the recipe of Ho et al. 2020, with batches of 128."""


class Bench:
    def __init__(self, options: argparse.Namespace):
        self.options, self.device = options, torch.device(options.device)
        self.batch, self.windows, self.steps = (4, 2, 2) if options.tiny else (128, 5, 10)
        self.found: dict[str, Any] = {"machine": machine() | {"device": self._name(), "native": described(self.device)}}

    def _name(self) -> str:
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type

    def composed(self, *overrides: str) -> Composed:
        tiny = TINY if self.options.tiny else []
        sizes = [f"trainer.batch_size={self.batch}", f"trainer.device={self.options.device}"]
        return Composed([*NETWORK, *sizes, *tiny, *overrides])

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def rate(self, step: Callable[[], None], amount: float) -> float:
        """The median of `amount` per second over windows of steps, after a warm-up."""
        for _ in range(2 if self.options.tiny else 5):
            step()
        rates = []
        for _ in range(self.windows):
            self.wait()
            began = time.perf_counter()
            for _ in range(self.steps):
                step()
            self.wait()
            rates.append(amount * self.steps / (time.perf_counter() - began))
        return statistics.median(rates)

    def memory(self) -> int | None:
        return int(torch.cuda.max_memory_allocated(self.device)) if self.device.type == "cuda" else None

    def product(self) -> float:
        """FLOP/s of the best bf16 matrix product."""
        side = 256 if self.options.tiny else 8192
        a, b = (torch.randn(side, side, device=self.device, dtype=torch.bfloat16) for _ in range(2))

        def multiply() -> None:
            torch.mm(a, b)

        return self.rate(multiply, 2 * side**3)

    def training(self, mode: str) -> dict[str, Any]:
        """images/s of the step of `ddpm train`, and the share of the best product."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        model = Training(self.composed(f"trainer.compile={mode}"))
        batch = next(random_images(512, 3, 32, flip=True).batches(self.batch, 0, 0, self.device))
        began = time.perf_counter()
        model.step(batch)
        self.wait()
        first = time.perf_counter() - began
        rate = self.rate(lambda: model.step(batch), self.batch)
        return {"images_per_second": rate, "first_step_seconds": first, "memory": self.memory()}

    def sampling(self, compiled: bool) -> dict[str, Any]:
        composed = self.composed("trainer.compile=false")
        model = composed.frozen()
        if compiled:
            model.backbone.compile()  # type: ignore[union-attr, operator]
        x = torch.randn(self.batch, 3, 32, 32, device=self.device)
        t = torch.full((self.batch,), 0.5, device=self.device)

        def call() -> None:
            with torch.inference_mode():
                model(x, t)

        return {"images_per_second_per_call": self.rate(call, self.batch), "memory": self.memory()}

    def diffusers(self) -> dict[str, Any]:
        from peers import diffusers

        peer = diffusers(self.batch, self.options.device)
        return {"weights": peer.weights, "images_per_second": self.rate(peer.train, self.batch)}

    def agreement(self) -> dict[str, Any]:
        """The largest difference between the first losses of compiled and plain code, both in float32."""
        losses = []
        for mode in ("false", "true"):
            model = Training(self.composed(f"trainer.compile={mode}", "trainer.precision=fp32"))
            batches = random_images(512, 3, 32, flip=True).batches(self.batch, 0, 0, self.device)
            losses.append([float(model.logged(next(batches))["loss"]) for _ in range(4 if self.options.tiny else 50)])
        return {"largest_difference": max(abs(a - b) for a, b in zip(*losses, strict=True)), "last": losses[0][-1]}

    def program(self, folder: Path, *arguments: str) -> None:
        code = "from ddpm_cli.cli import main; main()"
        subprocess.run([sys.executable, "-c", code, *arguments], cwd=folder, check=True, stdout=subprocess.DEVNULL)

    def resume(self) -> dict[str, Any]:
        """Two runs of 20 steps, of which one is interrupted after 10: whether their tensors have the same digest."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            common = ["train", "trainer.sample_every=0", "logger=none", f"trainer.device={self.options.device}"]
            self.program(folder, *common, "run_dir=whole", "trainer.steps=20")
            for steps in (10, 20):
                self.program(folder, *common, "run_dir=parts", f"trainer.steps={steps}")
            manifests = (folder / run / "checkpoints/step_00000020.json" for run in ("whole", "parts"))
            digests = {json.loads(m.read_text())["sha256"] for m in manifests}
        return {"bit_for_bit": len(digests) == 1}

    def real(self) -> dict[str, Any]:
        """A run with a budget on real pictures, and 100 samples of it."""
        run, budget = Path(f"{self.options.out}-run").resolve(), "5s" if self.options.tiny else "3min"
        run.mkdir(parents=True, exist_ok=True)
        data = ["dataset=digits"]
        if self.options.pictures:
            data = ["dataset=image_folder", f"dataset.root={unpacked(Path(self.options.pictures), run)}"]
            data += ["dataset.size=32"]
        device = self.options.device
        self.program(run, "train", *data, "run_dir=run", f"trainer.budget={budget}", f"trainer.device={device}")
        self.program(run, "sample", "ckpt=run", "n=100", "out=samples", f"device={device}")
        rows = [json.loads(line) for line in (run / "run/metrics.jsonl").read_text().splitlines()]
        return {
            "budget": budget,
            "steps": rows[-1]["step"],
            "seconds": rows[-1]["seconds"],
            "samples": "samples/grid.png",
        }

    def run(self) -> None:
        cuda = self.device.type == "cuda"
        parts: dict[str, Callable[[], Any]] = {
            "bf16_product": self.product,
            "train_eager": lambda: self.training("false"),
            "sample_eager": lambda: self.sampling(False),
            "diffusers": self.diffusers,
            "resume": self.resume,
            **({"train_compiled": lambda: self.training("true")} if cuda or self.options.compiled else {}),
            **({"train_graphs": lambda: self.training("graphs")} if cuda else {}),
            **({"sample_compiled": lambda: self.sampling(True)} if cuda else {}),
            **({"agreement": self.agreement} if cuda or self.options.compiled else {}),
            "real": self.real,
        }
        for name, measure in parts.items():
            began = time.perf_counter()
            try:
                self.found[name] = measure()
            except Exception as error:  # one part must not cost the others
                self.found[name] = {"failed": f"{type(error).__name__}: {error}"}
            self.found.setdefault("part_seconds", {})[name] = round(time.perf_counter() - began, 1)
            self.write()
            print(f"{name}: {json.dumps(self.found[name])}", flush=True)

    def write(self) -> None:
        out = Path(self.options.out)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.with_suffix(".json").write_text(json.dumps(self.found, indent=2) + "\n")
        out.with_suffix(".md").write_text("\n".join(self.lines()) + "\n")

    def lines(self) -> list[str]:
        f = self.found
        lines = ["# Speed on a GPU", "", f"{f['machine']['device']}, {f['machine']['native']}, versions "
                 f"{f['machine']['versions']}, batches of {self.batch}. `python benchmarks/gpu.py`.", ""]  # fmt: skip
        lines += ["| | images/s | beside diffusers | hours for 800,000 x 128 |", "|---|---:|---:|---:|"]
        other = f.get("diffusers", {}).get("images_per_second")
        for name in ("train_eager", "train_compiled", "train_graphs", "diffusers"):
            rate = f.get(name, {}).get("images_per_second")
            if rate:
                ratio = f"{rate / other:.2f} x" if other else ""
                lines.append(f"| {name} | {rate:,.0f} | {ratio} | {STEPS * 128 / rate / 3600:,.1f} |")
        return [*lines, "", "```", json.dumps({k: v for k, v in f.items() if k != "machine"}, indent=1), "```"]


def unpacked(archive: Path, folder: Path) -> Path:
    """The pictures of an archive as PNG files, a folder for each class."""
    root = folder / "pictures"
    with np.load(archive) as kept:
        for i, (pixels, label) in enumerate(zip(kept["pixels"], kept["labels"], strict=True)):
            file = root / str(label) / f"{i:05d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(file, compress_level=0)
    return root


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="docs/gpu", help="OUT.json, OUT.md and the folder OUT-run are written")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--pictures", help="an npz with `pixels` (N,32,32,3) uint8 and `labels` (N,)")
    parser.add_argument("--tiny", action="store_true", help="small network and few steps, to try the program out")
    parser.add_argument("--compiled", action="store_true", help="compile on a CPU as well, which takes minutes")
    Bench(parser.parse_args()).run()


if __name__ == "__main__":
    main()
