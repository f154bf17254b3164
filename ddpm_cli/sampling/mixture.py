"""A Gaussian mixture of a run: draws in one pass, its likelihood is exact."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from ..diffusion.noise import ImageNoise
from ..errors import ConfigError
from ..models.gmm import GMM
from ..runs.load import RunModel
from .bits import BitsOptions
from .generator import Generator
from .latent_bits import MixtureBits
from .request import Request
from .task import Task, check_one_pass, in_one_pass


class MixtureGenerator(Generator):
    name = "a mixture"
    ignores = ("sampler", "guidance")

    def __init__(self, run: RunModel):
        super().__init__(run)
        self.model = cast(GMM, run.model)

    def plan(self, request: Request, weights: Tensor | None = None) -> Task:
        check_one_pass(request)
        if request.prior != "auto":
            raise ConfigError("prior: belongs to autoencoders, and this is a Gaussian mixture; leave it out")
        if request.between is not None:
            raise ConfigError("between: a Gaussian mixture has no way from one image to another; use a run of a VAE")
        seeds = request.seeds

        def images(rows: Sequence[int]) -> Tensor:
            return draws(self.model, [seeds[i] for i in rows], request.pixel_noise)

        facts = {"name": request.task, "prior": None, "pixel_noise": request.pixel_noise}
        return Task(in_one_pass(images), seeds, None, 1, 0, {}, {"task": facts})

    def bits_evaluator(self, options: BitsOptions, seed: int) -> MixtureBits:
        return MixtureBits(self.model, seed)


def draws(module: GMM, seeds: range | list[int], pixel_noise: bool) -> Tensor:
    """An image (C,H,W) in [-1, 1] for each seed, (N,C,H,W); with `pixel_noise`, of the density itself."""
    noise = ImageNoise(seeds)
    u = torch.special.ndtr(noise.first((), "cpu").double())
    eps = noise.first((module.dimensions,), "cpu")
    return module.sample(u, eps, noise.first(module.shape, "cpu") if pixel_noise else None)
