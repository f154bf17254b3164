"""A GPU in one command: speed of the CIFAR-10 network, beside diffusers, exactness, and a real run of three minutes.

    python benchmarks/gpu.py --pictures cifar10.tar.xz --out docs/gpu    # under 8 minutes on one H100
    python benchmarks/gpu.py --tiny --device cpu --out outputs/gpu       # the same, tiny, on a CPU

The pictures are an archive (.tar or .zip) of a folder for each class, so that it travels as one file, or such a
folder; without it the real run uses scikit-learn's digits. What is measured:

- images/s of training and of network calls in sampling, for plain and compiled code and for CUDA graphs, the share of
  the best bf16 matrix product, and peak memory; the same for diffusers' UNet2DModel in the same process;
- where the time of a training step goes;
- whether a resumed run is bit for bit the run that was not interrupted;
- how far the first 50 losses of the compiled and of the plain network lie apart;
- the samples of a run with trainer.budget.

Writes OUT.json and OUT.md after each part, so that a run that is cut off leaves what it has measured; samples and the
run lie in OUT-run. `--parts` measures some parts only, and keeps what OUT.json has of the others.
"""

import argparse
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from gpu_measure import Measure

from ddpm_cli.bench.machine import machine
from ddpm_cli.hardware.formats import described

STEPS = 800_000
"""Optimizer steps of the recipe of Ho et al. 2020, with batches of 128."""
ROWS = {
    "train_eager": "training, `trainer.compile=false`",
    "train_compiled": "training, `trainer.compile=true`",
    "train_tuned": "the same with `trainer.autotune=true`",
    "train_graphs": "training, `trainer.compile=graphs`",
    "train_graphs_tuned": "the same with `trainer.autotune=true`",
    "diffusers": "training, diffusers as it ships",
    "diffusers_bf16": "training, diffusers with `--mixed_precision bf16`",
}
USUAL = {
    "usual_eager": "the default for a folder of pictures, `trainer.compile=false`",
    "usual_compiled": "the same, `trainer.compile=true`",
    "usual_graphs": "the same, `trainer.compile=graphs`",
}
CALLS = {
    "sample_eager": "a network call, `compile=false`",
    "sample_compiled": "a network call, `compile=true`",
    "sample_graphs": "a network call, `compile=graphs`",
    "diffusers": "a network call, diffusers as it ships",
    "diffusers_bf16": "a network call, diffusers under bf16",
}


class Bench:
    def __init__(self, options: argparse.Namespace):
        self.options, self.measure = options, Measure(options)
        self.device = self.measure.device
        kept = Path(options.out).with_suffix(".json")
        self.found: dict[str, Any] = json.loads(kept.read_text()) if options.parts and kept.is_file() else {}
        self.found["machine"] = machine() | {"device": self._name(), "native": described(self.device)}

    def _name(self) -> str:
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type

    def parts(self) -> dict[str, Callable[[], Any]]:
        m = self.measure
        compiled = m.cuda or self.options.compiled
        every: dict[str, Callable[[], Any] | None] = {
            "bf16_product": m.product,
            "flops": m.flops,
            "train_eager": lambda: m.training("trainer.compile=false"),
            "sample_eager": lambda: m.sampling(""),
            "diffusers": lambda: m.diffusers(False),
            "diffusers_bf16": lambda: m.diffusers(True),
            "train_compiled": (lambda: m.training("trainer.compile=true")) if compiled else None,
            "train_tuned": (lambda: m.training("trainer.compile=true", "trainer.autotune=true")) if m.cuda else None,
            "train_graphs": (lambda: m.training("trainer.compile=graphs")) if m.cuda else None,
            "train_graphs_tuned": (lambda: m.training("trainer.compile=graphs", "trainer.autotune=true"))
            if m.cuda
            else None,
            "usual_eager": lambda: m.usual("trainer.compile=false"),
            "usual_compiled": (lambda: m.usual("trainer.compile=true")) if m.cuda else None,
            "usual_graphs": (lambda: m.usual("trainer.compile=graphs")) if m.cuda else None,
            "sample_compiled": (lambda: m.sampling("true")) if compiled else None,
            "sample_graphs": (lambda: m.sampling("graphs")) if m.cuda else None,
            "shares_eager": lambda: m.shares("trainer.compile=false"),
            "shares_compiled": (lambda: m.shares("trainer.compile=true")) if m.cuda else None,
            "agreement": m.agreement if compiled else None,
            "resume": m.resume,
            "resume_compiled": (lambda: m.resume("trainer.compile=true")) if m.cuda else None,
            "real": self.real,
        }
        chosen = self.options.parts.split(",") if self.options.parts else list(every)
        unknown = set(chosen) - set(every)
        if unknown:
            raise SystemExit(f"--parts: there is no {', '.join(sorted(unknown))}; use {', '.join(every)}")
        return {name: part for name in chosen if (part := every[name]) is not None}

    def run(self) -> None:
        for name, part in self.parts().items():
            began = time.perf_counter()
            try:
                self.found[name] = part()
            except Exception as error:  # one part must not cost the others
                self.found[name] = {"failed": f"{type(error).__name__}: {error}"[:1000]}
            self.found.setdefault("part_seconds", {})[name] = round(time.perf_counter() - began, 1)
            self.write()
            print(f"{name}: {json.dumps(self.found[name])}", flush=True)

    def real(self) -> dict[str, Any]:
        """A run with a budget on real pictures, and 100 samples of it."""
        run = Path(f"{self.options.out}-run").resolve()
        run.mkdir(parents=True, exist_ok=True)
        data = ["dataset=digits"]
        if self.options.pictures:
            data = ["dataset=image_folder", f"dataset.root={unpacked(Path(self.options.pictures), run)}"]
            data += ["dataset.size=32"]
        device, budget = self.options.device, self.options.budget
        program = self.measure.program
        program(run, "train", *data, "run_dir=run", f"trainer.budget={budget}", f"trainer.device={device}")
        program(run, "sample", "ckpt=run", "n=100", "out=samples", f"device={device}")
        rows = [json.loads(line) for line in (run / "run/metrics.jsonl").read_text().splitlines()]
        last = next(row for row in reversed(rows) if "loss" in row)
        return {"budget": budget, **last, "samples": f"{run.name}/samples/grid.png"}

    def write(self) -> None:
        out = Path(self.options.out)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.with_suffix(".json").write_text(json.dumps(self.found, indent=2) + "\n")
        out.with_suffix(".md").write_text("\n".join(lines(self.found, self.measure.batch)) + "\n")


def lines(found: dict[str, Any], batch: int) -> list[str]:
    """The tables, in Markdown."""
    at = found["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in at["versions"].items())
    text = ["# Speed on a GPU", "", f"{at['device']}; {at['native']}; {versions}; batches of {batch}; the CIFAR-10 "
            "network of Ho et al. 2020. Made by `python benchmarks/gpu.py`.", ""]  # fmt: skip
    product, flops = found.get("bf16_product"), found.get("flops")
    peer = rate(found, "diffusers")
    text += ["| | images/s | beside diffusers | of the best product | memory | hours for 800,000 x 128 |"]
    text += ["|---|---:|---:|---:|---:|---:|"]
    for name, title in ROWS.items():
        if speed := rate(found, name):
            beside = f"{speed / peer:.2f} x" if peer else ""
            share = f"{speed * flops / product:.0%}" if number(product) and number(flops) else ""
            memory = gibibytes(found[name].get("memory"))
            hours = f"{STEPS * 128 / speed / 3600:,.1f}"
            text += [f"| {title} | {speed:,.0f} | {beside} | {share} | {memory} | {hours} |"]
    for name, title in USUAL.items():
        if speed := rate(found, name):
            text += [f"| {title} | {speed:,.0f} | | | {gibibytes(found[name].get('memory'))} | |"]
    text += ["", "| | images/s | beside diffusers |", "|---|---:|---:|"]
    peer = rate(found, "diffusers", "sampling_images_per_second")
    for name, title in CALLS.items():
        key = "sampling_images_per_second" if name.startswith("diffusers") else "images_per_second"
        if speed := rate(found, name, key):
            text += [f"| {title} | {speed:,.0f} | {f'{speed / peer:.2f} x' if peer else ''} |"]
    return [*text, *shares(found), *facts(found)]


def shares(found: dict[str, Any]) -> list[str]:
    """Where the time of a training step goes, a column for each kind of code."""
    kept = {title: found.get(f"shares_{title}", {}).get("kinds") for title in ("eager", "compiled")}
    columns = {title: kinds for title, kinds in kept.items() if kinds}
    if not columns:
        return []
    text = ["", f"| ms of a training step | {' | '.join(columns)} |", f"|---|{'---:|' * len(columns)}"]
    for kind in dict.fromkeys(kind for kinds in columns.values() for kind in kinds):
        text += [f"| {kind} | {' | '.join(f'{kinds.get(kind, 0):.1f}' for kinds in columns.values())} |"]
    return text


def facts(found: dict[str, Any]) -> list[str]:
    """What is no rate, a line each; parts that failed say why."""
    text = []
    for name, title in (("resume", "plain"), ("resume_compiled", "compiled")):
        if (same := found.get(name, {}).get("bit_for_bit")) is not None:
            text += [f"- Resumed, {title} code: {'bit for bit the same' if same else 'NOT the same'} weights."]
    if "last" in (agreement := found.get("agreement", {})):
        apart, last = agreement["largest_difference"], agreement["last"]
        text += [f"- The first losses of compiled and plain code differ by up to {apart:.2g}; the last is {last:.3g}."]
    if "step" in (real := found.get("real", {})):
        text += [f"- `trainer.budget={real['budget']}`: {real['step']} steps, loss {real['loss']:.3f}, "
                 f"{real['images_per_second']:,.0f} images/s at the end."]  # fmt: skip
    text += [
        f"- {name}: {part['failed']}" for name, part in found.items() if isinstance(part, dict) and "failed" in part
    ]
    return ["", *text]


def gibibytes(size: int | None) -> str:
    return f"{size / 2**30:.1f} GiB" if size else ""


def number(value: object) -> bool:
    return isinstance(value, float | int)


def rate(found: dict[str, Any], name: str, key: str = "images_per_second") -> float | None:
    part = found.get(name)
    return part.get(key) if isinstance(part, dict) else None


def unpacked(pictures: Path, folder: Path) -> Path:
    """The folder of pictures; an archive is unpacked into `folder`. If it has a `train`, that."""
    root = pictures.resolve()
    if pictures.is_file():
        root = folder / "pictures"
        shutil.unpack_archive(pictures, root, **({"filter": "data"} if ".tar" in pictures.name else {}))
    inner = next((found for found in (root / "train", *root.glob("*/train")) if found.is_dir()), None)
    return inner or root


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="docs/gpu", help="OUT.json, OUT.md and the folder OUT-run are written")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--pictures", help="an archive or a folder of pictures, with a folder for each class")
    parser.add_argument("--budget", help="of the real run; 3min, or 5s with --tiny")
    parser.add_argument("--parts", help="some parts only, separated by commas")
    parser.add_argument("--tiny", action="store_true", help="small network and few steps, to try the program out")
    parser.add_argument("--compiled", action="store_true", help="compile on a CPU as well, which takes minutes")
    options = parser.parse_args()
    options.budget = options.budget or ("5s" if options.tiny else "3min")
    Bench(options).run()


if __name__ == "__main__":
    main()
