"""A tiny U-Net on images of three greys, ready to train, for tests of training steps."""

from typing import Any

import torch
from torch import nn

from ddpm_cli.data.images import Images
from ddpm_cli.diffusion.denoiser import Denoiser
from ddpm_cli.diffusion.schedule import CosineSchedule
from ddpm_cli.diffusion.target import V
from ddpm_cli.hardware.runtime import choose_runtime
from ddpm_cli.models.unet import UNet
from ddpm_cli.objectives.base import Objective
from ddpm_cli.objectives.denoising import Denoising
from ddpm_cli.runs.assemble import ModelSpec
from ddpm_cli.training.loop import update
from ddpm_cli.training.plan import Plan
from ddpm_cli.training.setup import prepare
from ddpm_cli.training.state import TrainState


def pictures(n: int = 32) -> Images:
    labels = torch.arange(n) % 3
    grain = torch.randint(0, 40, (n, 1, 8, 8), generator=torch.Generator().manual_seed(1))
    return Images((labels.view(-1, 1, 1, 1) * 100 + grain).to(torch.uint8), labels, ("a", "b", "c"))


def unet(**options: Any) -> UNet:
    torch.manual_seed(0)
    small: dict[str, Any] = {"channels": 8, "multipliers": (1, 2), "blocks": 1, "attention_resolutions": (4,)}
    return UNet(1, 8, num_classes=3, class_conditional=True, **{**small, "dropout": 0.0, **options})


class TinyTraining:
    """`steps(n)` takes n optimizer steps and returns their losses."""

    def __init__(self, plan: Plan, module: nn.Module | None = None, objective: Objective | None = None):
        self.plan, self.data = plan, pictures()
        self.objective = objective or Denoising(V())
        spec = ModelSpec(self.objective, CosineSchedule(), choose_runtime("cpu", plan.precision))

        def adam(parameters: Any) -> torch.optim.Optimizer:
            return torch.optim.Adam(parameters, 1e-3, fused=True)

        self.state: TrainState = prepare(module or unet(), adam, plan, spec, None, self.data)
        self.model = spec.wrap(self.state.module)
        assert isinstance(self.model, Denoiser)
        self.model.train()

    def steps(self, n: int) -> list[float]:
        batches = self.data.batches(self.plan.batch_size, 0, self.state.step)
        return [
            float(update(self.objective, self.model, self.state, next(batches), self.plan, 0)["loss"]) for _ in range(n)
        ]
