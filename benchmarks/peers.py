"""Training and sampling speed beside other programs, on the CIFAR-10 network of Ho et al. 2020 (about 35.7 M weights).

    pip install diffusers denoising-diffusion-pytorch labml-nn
    python benchmarks/peers.py --out docs/peers          # writes docs/peers.md and docs/peers.json

Every program runs as it ships: its own network in the configuration nearest to that of the paper, its own loss,
optimizer, gradient clipping and average of the weights, in the precision that it chooses by itself. Only reading
files is left out: all are handed pictures that are in memory already, the peers as floats, this program through its own
batches. Each has a process of its own, so that peak memory is its own; the processes take turns, a window of steps
each, so that other load on the machine slows all of them. Ratios are of medians over the windows.
"""

import argparse
import functools
import json
import multiprocessing
import platform
import resource
import statistics
import sys
import time
import types
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

IMAGES = 512


class Contender(NamedTuple):
    """train() makes one optimizer step; sample(n, steps) draws n images with so many network calls each."""

    weights: int
    train: Callable[[], None]
    sample: Callable[[int, int], None]


def pictures() -> Tensor:
    """(N,3,32,32) uint8."""
    return torch.randint(0, 256, (IMAGES, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def weights(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


class Loader:
    """Batches of floats in [-1, 1] (or [0, 1]) for the peers."""

    def __init__(self, size: int, device: str, low: float = -1.0):
        pixels = pictures().float() / 255
        self.x = (pixels * (1 - low) + low).to(device)
        self.size, self.at = size, 0

    def __call__(self) -> Tensor:
        index = (torch.arange(self.size, device=self.x.device) + self.at) % len(self.x)
        self.at += self.size
        return self.x[index]


def ddpm_cli(size: int, device: str, *options: str) -> Contender:
    """`ddpm train dataset=cifar10 model=unet` and `ddpm sample`: each builds what it needs when it is first called."""
    from composed import Composed, random_images

    from ddpm_cli.diffusion.generate import generate

    chosen = ["dataset=cifar10", "model=unet", f"trainer.batch_size={size}", f"trainer.device={device}"]
    composed = Composed([*chosen, *options])
    frozen = functools.cache(composed.frozen)

    @functools.cache
    def training() -> tuple[Any, Iterator[Any]]:
        images = random_images(IMAGES, 3, 32, flip=True)
        return composed.training(), images.batches(size, 0, 0, composed.device)

    def sample(n: int, steps: int) -> None:
        list(generate(frozen(), composed.sampler(steps=steps), (3, 32, 32), range(n), batch_size=n))  # type: ignore[arg-type]

    def train() -> None:
        model, batches = training()
        model.step(next(batches))

    return Contender(weights(composed.network()), train, sample)


def diffusers(size: int, device: str) -> Contender:
    """UNet2DModel as in google/ddpm-cifar10-32 and the recipe of train_unconditional.py."""
    from diffusers import DDIMPipeline, DDIMScheduler, DDPMScheduler, UNet2DModel
    from diffusers.training_utils import EMAModel

    model = UNet2DModel(
        sample_size=32,
        in_channels=3,
        out_channels=3,
        layers_per_block=2,
        block_out_channels=(128, 256, 256, 256),
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        dropout=0.1,
        downsample_padding=0,
        flip_sin_to_cos=False,
        freq_shift=1,
        attention_head_dim=None,
        norm_eps=1e-6,
    ).to(device)
    ema = EMAModel(
        model.parameters(),
        decay=0.9999,
        use_ema_warmup=True,
        inv_gamma=1.0,
        power=0.75,
        model_cls=UNet2DModel,
        model_config=model.config,
    )
    scheduler = DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear")
    adam = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8)
    load = Loader(size, device)
    pipeline = DDIMPipeline(unet=model, scheduler=DDIMScheduler(num_train_timesteps=1000))
    pipeline.set_progress_bar_config(disable=True)

    def train() -> None:
        model.train()
        clean = load()
        noise = torch.randn_like(clean)
        t = torch.randint(0, 1000, (size,), device=device)
        out = model(scheduler.add_noise(clean, noise, t), t).sample
        torch.nn.functional.mse_loss(out.float(), noise.float()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        adam.zero_grad()
        ema.step(model.parameters())

    def sample(n: int, steps: int) -> None:
        model.eval()
        pipeline(batch_size=n, num_inference_steps=steps, output_type="np")

    return Contender(weights(model), train, sample)


def lucidrains(size: int, device: str) -> Contender:
    """denoising-diffusion-pytorch: Unet(dim=128, dim_mults=(1,2,2,2)), and what its Trainer does in a step."""
    from denoising_diffusion_pytorch import GaussianDiffusion, Unet
    from ema_pytorch import EMA

    model = Unet(dim=128, dim_mults=(1, 2, 2, 2), dropout=0.1)
    diffusion = GaussianDiffusion(model, image_size=32, timesteps=1000, sampling_timesteps=250).to(device)
    adam = torch.optim.Adam(diffusion.parameters(), lr=1e-4, betas=(0.9, 0.99))
    ema = EMA(diffusion, beta=0.995, update_every=10)
    load = Loader(size, device, low=0.0)

    def train() -> None:
        diffusion.train()
        diffusion(load()).backward()
        torch.nn.utils.clip_grad_norm_(diffusion.parameters(), 1.0)
        adam.step()
        adam.zero_grad()
        ema.update()

    def sample(n: int, steps: int) -> None:
        ema.ema_model.eval()
        ema.ema_model.sampling_timesteps = steps
        ema.ema_model.ddim_sample((n, 3, 32, 32))

    return Contender(weights(model), train, sample)


def labml(size: int, device: str) -> Contender:
    """labml-nn: its UNet at the widths of the paper (its multipliers compound), Adam, no average, no clipping."""
    sys.modules.setdefault("labml_helpers", types.ModuleType("labml_helpers"))
    helper = types.ModuleType("labml_helpers.module")
    helper.Module = nn.Module  # type: ignore[attr-defined]
    sys.modules.setdefault("labml_helpers.module", helper)
    from labml_nn.diffusion.ddpm import DenoiseDiffusion
    from labml_nn.diffusion.ddpm.unet import UNet

    model = UNet(3, 128, ch_mults=(1, 2, 1, 1), is_attn=(False, True, False, False), n_blocks=2).to(device)
    diffusion = DenoiseDiffusion(model, 1000, torch.device(device))
    adam = torch.optim.Adam(model.parameters(), lr=2e-5)
    load = Loader(size, device, low=0.0)

    def train() -> None:
        model.train()
        adam.zero_grad()
        diffusion.loss(load()).backward()
        adam.step()

    def sample(n: int, steps: int) -> None:
        model.eval()
        with torch.no_grad():
            x = torch.randn(n, 3, 32, 32, device=device)
            for i in range(steps):  # it has only the ancestral sampler: this many of its steps
                x = diffusion.p_sample(x, x.new_full((n,), 999 - i, dtype=torch.long))

    return Contender(weights(model), train, sample)


CONTENDERS: dict[str, Callable[..., Contender]] = {
    "ddpm-cli": ddpm_cli,
    "ddpm-cli, fp32": lambda size, device: ddpm_cli(size, device, "trainer.precision=fp32"),
    "diffusers": diffusers,
    "denoising-diffusion-pytorch": lucidrains,
    "labml-nn": labml,
}


def work(pipe: Connection, name: str, size: int, device: str, what: str) -> None:
    """One contender in its own process: sends its weights and FLOP, then the seconds of each round, until None."""
    torch.manual_seed(0)
    one = CONTENDERS[name](size, device)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        if what == "sample":
            one.sample(1, 1)
    pipe.send((one.weights, counter.get_total_flops()))

    def wait() -> None:
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    while (count := pipe.recv()) is not None:
        wait()
        began = time.perf_counter()
        if what == "train":
            for _ in range(count):
                one.train()
        else:
            one.sample(size, count)
        wait()
        pipe.send(time.perf_counter() - began)
    peak = torch.cuda.max_memory_allocated() if device.startswith("cuda") else peak_rss()
    pipe.send(peak)


def peak_rss() -> int:
    """Bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(names: list[str], what: str, size: int, device: str, count: int, windows: int) -> dict[str, dict[str, Any]]:
    """Windows of `count` steps in turn; the first of each contender is warm-up and does not count."""
    context = multiprocessing.get_context("spawn")
    pipes, found = {}, {}
    for name in names:
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(theirs, name, size, device, what), daemon=True)
        process.start()
        parameters, flops = ours.recv()
        pipes[name], found[name] = ours, {"parameters": parameters, "flops": flops, "seconds": []}
    for window in range(windows + 1):
        for name, pipe in pipes.items():
            pipe.send(count)
            seconds = pipe.recv()
            if window:
                found[name]["seconds"].append(seconds)
            print(f"{what} {window}/{windows} {name}: {seconds:.2f} s", file=sys.stderr)
    for name, pipe in pipes.items():
        pipe.send(None)
        found[name]["peak_bytes"] = pipe.recv()
        rates = sorted(size * (count if what == "train" else 1) / s for s in found[name]["seconds"])
        found[name] |= {"images_per_second": statistics.median(rates), "slowest": rates[0], "fastest": rates[-1]}
    return found


def table(found: dict[str, dict[str, Any]], first: str, unit: str) -> str:
    rows = [
        f"| | weights | GFLOP per image | images/s, median [slowest, fastest] | {first} relative to it | peak {unit} |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    base = found[first]["images_per_second"]
    for name, one in found.items():
        rate, low, high = one["images_per_second"], one["slowest"], one["fastest"]
        ratio = "" if name == first else f"{base / rate:.2f} x"
        rows.append(
            f"| {name} | {one['parameters'] / 1e6:.1f} M | {one['flops'] / 1e9:.1f} "
            f"| {rate:.2f} [{low:.2f}, {high:.2f}] | {ratio} "
            f"| {one['peak_bytes'] / 2**30:.2f} GiB |"
        )
    return "\n".join(rows)


def installed(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} (not installed)"


def machine(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name()
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    name = names[0].partition(":")[2].strip() if names else platform.processor()
    return f"{torch.get_num_threads()} threads of {name}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=2, help="training steps of a window")
    parser.add_argument("--calls", type=int, default=10, help="sampling steps")
    parser.add_argument("--windows", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--only", nargs="*", default=list(CONTENDERS), choices=list(CONTENDERS))
    parser.add_argument("--out", type=Path, default=Path("outputs/peers"))
    options = parser.parse_args()
    found = {
        what: measure(options.only, what, options.batch, options.device, count, options.windows)
        for what, count in (("train", options.steps), ("sample", options.calls))
    }
    for name, one in found["train"].items():
        one["flops"] = found["sample"][name]["flops"]
    packages = ("ddpm-cli", "torch", "diffusers", "denoising-diffusion-pytorch", "labml-nn")
    about = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(options.device),
        "versions": [installed(p) for p in packages],
        "command": "python benchmarks/peers.py " + " ".join(sys.argv[1:]),
        "batch": options.batch,
    }
    unit = "device memory" if options.device.startswith("cuda") else "resident memory"
    first = options.only[0]
    text = "\n\n".join(
        [
            "# Speed beside other programs",
            f"{about['date']}, {about['machine']}; {', '.join(about['versions'])}.\n\n`{about['command']}`",
            f"Training, batches of {options.batch}, {options.windows} windows of {options.steps} steps each in turn:",
            table(found["train"], first, unit),
            f"Sampling, {options.batch} images at a time with {options.calls} network calls, "
            f"{options.windows} windows in turn:",
            table(found["sample"], first, unit),
            "GFLOP: the convolutions and matrix products of one network call for one image, as it runs, counted by "
            "torch. The upsampling in this program needs fewer than in other programs for the same network.",
        ]
    )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.with_suffix(".json").write_text(json.dumps({**about, **found}, indent=1) + "\n")
    options.out.with_suffix(".md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
