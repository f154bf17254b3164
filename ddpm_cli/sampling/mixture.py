"""An opened run of a Gaussian mixture: draws samples in one pass; its likelihood is exact."""

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
    name = "a Gaussian mixture"
    ignores = ("sampler", "guidance")

    def __init__(self, run: RunModel):
        super().__init__(run)
        self.model = cast(GMM, run.model)

    def plan(self, request: Request, weights: Tensor | None = None) -> Task:
        check_one_pass(request)
        if request.prior != "auto":
            raise ConfigError("prior: only for autoencoders, and this is a Gaussian mixture; leave it out")
        if request.between is not None:
            raise ConfigError("between: a Gaussian mixture cannot interpolate; use a diffusion model or an autoencoder")
        seeds = request.image_seeds

        def images(rows: Sequence[int]) -> Tensor:
            return draws(self.model, [seeds[i] for i in rows], request.pixel_noise)

        facts = {"name": request.task, "prior": None, "pixel_noise": request.pixel_noise}
        return Task(in_one_pass(images), seeds, None, 1, 0, {}, {"task": facts})

    def bits_evaluator(self, options: BitsOptions, seed: int) -> MixtureBits:
        return MixtureBits(self.model, seed)


def draws(module: GMM, seeds: range | list[int], pixel_noise: bool) -> Tensor:
    """(N,C,H,W) in [-1, 1], an image per seed: the expected image; with `pixel_noise`, a sample of the density."""
    noise = ImageNoise(seeds)
    u = torch.special.ndtr(noise.first((), "cpu").double())
    eps = noise.first((module.dimensions,), "cpu")
    return module.sample(u, eps, noise.first(module.shape, "cpu") if pixel_noise else None)
