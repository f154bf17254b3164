"""A model to time, as `ddpm train` composes it from overrides, trained on pictures that the benchmark supplies."""

from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from ddpm_cli.build import build
from ddpm_cli.config.compose import compose_command
from ddpm_cli.config.launch import plain
from ddpm_cli.data.images import Batch, Images
from ddpm_cli.diffusion.samplers import Sampler
from ddpm_cli.hardware.runtime import choose_runtime
from ddpm_cli.runs.assemble import ModelSpec, completed, network
from ddpm_cli.training.loop import update
from ddpm_cli.training.setup import prepare


class Composed:
    """What the overrides describe: the plan, the objective, the device, and what sampling and training need.

    Args:
        overrides: of `ddpm train`.
        images: what it is trained on; they decide how many classes the network knows.
    """

    def __init__(self, overrides: list[str], images: Images | None = None):
        composed = compose_command("train", [*overrides, "run_dir=x"])
        self.config = plain(OmegaConf.masked_copy(composed, [str(k) for k in composed if k != "hydra"]))
        if images is not None:
            self.config = completed(self.config, images)
        self.plan = build(self.config["trainer"], "trainer")
        self.spec = ModelSpec.of(self.config, choose_runtime(self.plan.device, self.plan.precision))
        self.device = self.spec.runtime.device

    def network(self) -> nn.Module:
        return network(self.config)

    def sampler(self, **options: Any) -> Sampler:
        sampler: Sampler = build({**self.config["sampler"], **options}, "sampler")
        return sampler

    def frozen(self) -> nn.Module:
        """The model as it is sampled."""
        runtime = self.spec.runtime
        return self.spec.wrap(runtime.freeze(runtime.prepare(self.network())))

    def training(self) -> "Training":
        return Training(self)


class Training:
    """A model between two optimizer steps."""

    def __init__(self, composed: Composed):
        self.composed, self.objective = composed, composed.spec.objective
        optimizer = build(composed.config["optimizer"], "optimizer")
        self.state = prepare(composed.network(), optimizer, composed.plan, composed.spec, None)
        self.model = composed.spec.wrap(self.state.module).train()

    def step(self, batch: Batch) -> None:
        """One optimizer step, as the loop of `ddpm train` takes it."""
        self.logged(batch)

    def logged(self, batch: Batch) -> dict[str, Tensor]:
        """One step; returns what it logs."""
        self.model.train()
        return update(self.objective, self.model, self.state, batch, self.composed.plan, 0)


def random_images(n: int, channels: int, side: int, classes: int = 0, flip: bool = False) -> Images:
    """Noise as pictures, in memory."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (n, channels, side, side), dtype=torch.uint8, generator=generator)
    labels = torch.arange(n) % max(classes, 1)
    return Images(pixels, labels, tuple(str(i) for i in range(classes)), flip)
