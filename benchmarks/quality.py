"""Quality for a budget of time beside other programs: samples measured in the features of a classifier.

    pip install diffusers denoising-diffusion-pytorch
    python benchmarks/quality.py diffusers --root data --seconds 600 --out outputs/quality/diffusers
    ddpm eval samples=outputs/quality/diffusers features=CLASSIFIER root=data split=test real=null

A peer runs as it ships: its own network (of a size that such a budget suits), loss, optimizer, batch, learning rate and
average of the weights, in the precision that it chooses by itself, and its own DDIM sampler with 50 network calls. All
pictures are in memory as floats before the clock starts; nothing but training counts. Its samples go to
OUT/samples.npz, with OUT/quality.json beside them. Runs of this program: `ddpm train experiment=fashion_mnist_small`.

With --folder DIR the data are the pictures in the folders of DIR, all of one size, instead of Fashion-MNIST; for this
program, `ddpm train dataset=image_folder dataset.root=DIR`.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.datasets import FashionMNIST

CALLS = 50


class Peer(NamedTuple):
    """train(step) makes one optimizer step of `batch` images; sample(n) draws n images in [0, 1]."""

    module: nn.Module
    batch: int
    train: Callable[[int], None]
    sample: Callable[[int], Tensor]


def pictures(root: str) -> Tensor:
    """(60000,1,28,28) in [0, 1]."""
    return FashionMNIST(root, train=True).data[:, None].float() / 255


def pictures_of_folder(folder: Path) -> Tensor:
    """(N,3,H,W) in [0, 1]; all pictures must have the same size."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return (
        torch.from_numpy(np.stack([np.asarray(Image.open(p).convert("RGB")) for p in paths])).permute(0, 3, 1, 2) / 255
    )


class Loader:
    """Batches in a new order in each epoch.

    Args:
        mirrored: whether a picture is mirrored with probability 1/2, as by Trainer of denoising-diffusion-pytorch. Not
            for Fashion-MNIST: all shoes of this set point to the left.
    """

    def __init__(self, images: Tensor, size: int, mirrored: bool = False):
        self.images, self.size, self.mirrored = images, size, mirrored
        self.order = torch.empty(0, dtype=torch.int64)

    def __call__(self) -> Tensor:
        if len(self.order) < self.size:
            self.order = torch.randperm(len(self.images))
        index, self.order = self.order[: self.size], self.order[self.size :]
        batch = self.images[index]
        return torch.where((torch.rand(self.size) < 0.5)[:, None, None, None] & self.mirrored, batch.flip(3), batch)


def diffusers(images: Tensor) -> Peer:
    """UNet2DModel of 3.9 M weights, trained as train_unconditional.py does."""
    from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel
    from diffusers.optimization import get_cosine_schedule_with_warmup
    from diffusers.training_utils import EMAModel

    batch, per_epoch = 16, len(images) // 16
    channels, size = images.shape[1], images.shape[2]
    model = UNet2DModel(
        sample_size=size,
        in_channels=channels,
        out_channels=channels,
        layers_per_block=2,
        block_out_channels=(32, 64, 128),
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
    )
    ema = EMAModel(
        model.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75,
        model_cls=UNet2DModel, model_config=model.config,
    )  # fmt: skip
    scheduler, ddim = DDPMScheduler(num_train_timesteps=1000), DDIMScheduler(num_train_timesteps=1000)
    adam = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8)
    warm = get_cosine_schedule_with_warmup(adam, 500, 100 * per_epoch)  # its 100 epochs
    load = Loader(images * 2 - 1, batch)

    def train(step: int) -> None:
        clean = load()
        noise = torch.randn_like(clean)
        t = torch.randint(0, 1000, (batch,))
        out = model(scheduler.add_noise(clean, noise, t), t).sample
        torch.nn.functional.mse_loss(out.float(), noise.float()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        warm.step()
        adam.zero_grad()
        ema.step(model.parameters())

    def sample(n: int) -> Tensor:
        ema.store(model.parameters())
        ema.copy_to(model.parameters())
        model.eval()
        ddim.set_timesteps(CALLS)
        x = torch.randn(n, channels, size, size)
        for t in ddim.timesteps:
            x = ddim.step(model(x, t).sample, t, x).prev_sample
        return x / 2 + 0.5

    return Peer(model, batch, train, sample)


def lucidrains(images: Tensor) -> Peer:
    """denoising-diffusion-pytorch: Unet(dim=32, dim_mults=(1,2,4)), 2.6 M weights, and what its Trainer does."""
    from denoising_diffusion_pytorch import GaussianDiffusion, Unet
    from ema_pytorch import EMA

    batch, channels, size = 16, images.shape[1], images.shape[2]
    model = Unet(dim=32, dim_mults=(1, 2, 4), channels=channels)
    diffusion = GaussianDiffusion(model, image_size=size, timesteps=1000, sampling_timesteps=CALLS)
    adam = torch.optim.Adam(diffusion.parameters(), lr=1e-4, betas=(0.9, 0.99))
    ema = EMA(diffusion, beta=0.995, update_every=10)
    load = Loader(images, batch, mirrored=channels == 3)

    def train(step: int) -> None:
        diffusion(load()).backward()
        torch.nn.utils.clip_grad_norm_(diffusion.parameters(), 1.0)
        adam.step()
        adam.zero_grad()
        ema.update()

    def sample(n: int) -> Tensor:
        ema.ema_model.eval()
        return ema.ema_model.sample(n)

    return Peer(model, batch, train, sample)


PEERS: dict[str, Callable[[Tensor], Peer]] = {"diffusers": diffusers, "denoising-diffusion-pytorch": lucidrains}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=list(PEERS))
    parser.add_argument("--root", default="data", help="the folder that FashionMNIST/raw lies in")
    parser.add_argument("--folder", type=Path, help="train on the pictures of this folder instead")
    parser.add_argument("--seconds", type=float, default=600, help="of training")
    parser.add_argument("--n", type=int, default=1000, help="samples")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.manual_seed(0)
    images = pictures(options.root) if options.folder is None else pictures_of_folder(options.folder)
    peer = PEERS[options.peer](images)
    began, step = time.perf_counter(), 0
    while (seconds := time.perf_counter() - began) < options.seconds:
        peer.train(step)
        step += 1
    weights = sum(p.numel() for p in peer.module.parameters())
    facts = {"peer": options.peer, "weights": weights, "seconds": seconds, "steps": step, "images": step * peer.batch}
    print(facts)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "quality.json").write_text(json.dumps(facts, indent=1) + "\n")
    began = time.perf_counter()
    with torch.inference_mode():
        parts = [peer.sample(min(100, options.n - i)) for i in range(0, options.n, 100)]
    x = torch.cat(parts).clamp(0, 1).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    np.savez(options.out / "samples.npz", arr_0=x)
    facts |= {"sampling_seconds": time.perf_counter() - began, "calls": CALLS, "torch": torch.__version__}
    (options.out / "quality.json").write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
