"""What benchmarks/gpu.py measures about speed and exactness, on one device."""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from composed import Composed, Training, random_images
from torch.profiler import ProfilerActivity, profile

from ddpm_cli.bench.flops import training_flops

NETWORK = ["dataset=cifar10", "model=unet"]
TINY = ["model.channels=32", "model.blocks=1", "model.attention_resolutions=[]"]
KINDS = {
    "fused by the compiler": r"^triton",
    "convolution": r"conv|wgrad|dgrad|fprop|cutlass.*(nhwc|krsc)|xmma",
    "attention": r"flash|fmha|sdpa|attention",
    "matrix product": r"gemm|nvjet|cublas|gemv|splitk|addmm|::mm",
    "optimizer and average": r"multi_tensor|fused_adam|foreach|lpnorm",
    "norm": r"group_?norm|rowwisemoments|computefusedparams|computeinternalgradients|gammabeta",
    "copies and changes of layout": r"memcpy|memset|copy|transpose|nchw|nhwc|cat",
}
"""Kind of kernel -> what its names contain; the first that fits counts."""


class Measure:
    def __init__(self, options: argparse.Namespace):
        self.options, self.device = options, torch.device(options.device)
        self.cuda = self.device.type == "cuda"
        self.batch, self.windows, self.steps = (4, 2, 2) if options.tiny else (128, 5, 10)

    def composed(self, *overrides: str) -> Composed:
        small = self.options.tiny and not any(key.startswith("model=") for key in overrides)
        sizes = [f"trainer.batch_size={self.batch}", f"trainer.device={self.options.device}"]
        return Composed([*NETWORK, *sizes, *(TINY if small else []), *overrides])

    def wait(self) -> None:
        if self.cuda:
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

    def fresh_memory(self) -> None:
        if self.cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def memory(self) -> int | None:
        """The largest number of bytes that were in use since `fresh_memory`."""
        return int(torch.cuda.max_memory_allocated(self.device)) if self.cuda else None

    def product(self) -> float:
        """FLOP/s of the best bf16 matrix product."""
        side = 256 if self.options.tiny else 8192
        a, b = (torch.randn(side, side, device=self.device, dtype=torch.bfloat16) for _ in range(2))

        def multiply() -> None:
            torch.mm(a, b)

        return self.rate(multiply, 2 * side**3)

    def flops(self) -> float:
        """FLOP of a training step for each image."""
        model = Training(self.composed("trainer.compile=false"))
        batch = next(random_images(8, 3, 32).batches(2, 0, 0, self.device))
        return training_flops(model.objective, model.model, batch).training

    def usual(self, *overrides: str) -> dict[str, Any]:
        """images/s of the network and the recipe that `dataset=image_folder` has by default."""
        usual = ["optimizer=muon", "model=unet_small", f"trainer.batch_size={min(self.batch, 64)}"]
        return self.training(*usual, *overrides)

    def training(self, *overrides: str) -> dict[str, Any]:
        """images/s of the step of `ddpm train`."""
        self.fresh_memory()
        model = Training(self.composed(*overrides))
        size = model.composed.plan.batch_size
        batch = next(random_images(512, 3, 32, flip=True).batches(size, 0, 0, self.device))
        began = time.perf_counter()
        model.step(batch)
        self.wait()
        first = time.perf_counter() - began
        rate = self.rate(lambda: model.step(batch), size)
        return {"images_per_second": rate, "first_step_seconds": round(first, 1), "memory": self.memory()}

    def shares(self, *overrides: str) -> dict[str, Any]:
        """The time of each kind of kernel in a training step, and the slowest kernels, in milliseconds."""
        model = Training(self.composed(*overrides))
        batch = next(random_images(512, 3, 32, flip=True).batches(self.batch, 0, 0, self.device))
        for _ in range(3):
            model.step(batch)
        self.wait()
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self.cuda else [])]
        with profile(activities=activities, record_shapes=True) as recorded:
            for _ in range(3):
                model.step(batch)
            self.wait()

        def spent(event: Any) -> float:
            return (event.self_device_time_total if self.cuda else event.self_cpu_time_total) / 3000

        # on a GPU torch lists the kernels, and beside them the operations that launched them, with the same times
        events = recorded.key_averages()
        kernels = [e for e in events if not self.cuda or e.device_type == torch.autograd.DeviceType.CUDA]
        times = [(e.key, spent(e)) for e in kernels]
        operations = [(f"{e.key} {e.input_shapes}", spent(e)) for e in recorded.key_averages(group_by_input_shape=True)]
        kinds: dict[str, float] = {}
        for name, seconds in times:
            found = next((kind for kind, part in KINDS.items() if re.search(part, name.lower())), "element by element")
            kinds[found] = kinds.get(found, 0) + seconds
        return {
            "kinds": {kind: round(time, 2) for kind, time in sorted(kinds.items(), key=lambda pair: -pair[1])},
            "slowest": [f"{time:.2f} {name[:240]}" for name, time in sorted(times, key=lambda pair: -pair[1])[:30]],
            "operations": [f"{t:.2f} {name[:240]}" for name, t in sorted(operations, key=lambda pair: -pair[1])[:30]],
        }

    def sampling(self, compiled: str) -> dict[str, Any]:
        """Pictures per second for one network call."""
        self.fresh_memory()
        model = self.composed("trainer.compile=false").frozen()
        if compiled:
            options = {"mode": "reduce-overhead"} if compiled == "graphs" else {}
            model.backbone.compile(**options)  # type: ignore[union-attr, operator]
        x = torch.randn(self.batch, 3, 32, 32, device=self.device)
        t = torch.full((self.batch,), 0.5, device=self.device)

        def call() -> None:
            with torch.inference_mode():
                model(x, t)

        return {"images_per_second": self.rate(call, self.batch), "memory": self.memory()}

    def diffusers(self, autocast: bool) -> dict[str, Any]:
        """Their training step and network call as their script ships, or with `--mixed_precision bf16`."""
        from peers import diffusers

        torch.set_float32_matmul_precision("highest")  # torch's own settings, which our runs change
        torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic = True, False
        self.fresh_memory()
        peer = diffusers(self.batch, self.options.device)

        def under(call: Callable[[], None]) -> None:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=autocast):
                call()

        rate = self.rate(lambda: under(peer.train), self.batch)
        memory = self.memory()
        calls = 4
        drawn = self.rate(lambda: under(lambda: peer.sample(self.batch, calls)), self.batch * calls)
        return {
            "weights": peer.weights,
            "images_per_second": rate,
            "memory": memory,
            "sampling_images_per_second": drawn,
        }

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
        done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"ddpm {' '.join(arguments)} ended with {done.returncode}: {done.stderr[-400:]}")

    def resume(self, *overrides: str) -> dict[str, Any]:
        """Two runs of 20 steps, of which one is interrupted after 10: whether their tensors have the same digest."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            common = ["train", "trainer.sample_every=0", "logger=none", f"trainer.device={self.options.device}"]
            self.program(folder, *common, *overrides, "run_dir=whole", "trainer.steps=20")
            for steps in (10, 20):
                self.program(folder, *common, *overrides, "run_dir=parts", f"trainer.steps={steps}")
            manifests = (folder / run / "checkpoints/step_00000020.json" for run in ("whole", "parts"))
            digests = {json.loads(m.read_text())["sha256"] for m in manifests}
        return {"bit_for_bit": len(digests) == 1}
