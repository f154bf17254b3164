"""An opened run of an autoencoder: draws samples in one pass from a prior over its latents, and interpolates."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, cast

import torch
from torch import Tensor

from ..diffusion.editing import slerp
from ..diffusion.noise import ImageNoise
from ..errors import ConfigError
from ..objectives.latent import LatentModel
from ..progress import Progress
from ..runs.load import RunModel
from .animation import Animation, AnimationOptions, PingPong, interpolation
from .bits import BitsOptions
from .generator import Generator
from .inputs import picture_of
from .latent_bits import AutoencoderBits
from .request import Prior, Request
from .task import Task, check_one_pass, in_one_pass

EDGE = 1e-6
"""The smallest distance of a uniform number from 0 and 1, where the normal quantile would be infinite."""
PIXEL_SEEDS = 2**41
"""Offset between the seeds of z and the seeds of the noise around the expected image."""
Codes = Callable[[Sequence[int]], Tensor]
"""Image indices -> z (B,L)."""


class AutoencoderGenerator(Generator):
    name = "an autoencoder"
    ignores = ("sampler", "guidance")
    animations = ("interpolate",)
    instead = "kind=interpolate between=[3,17]"

    def __init__(self, run: RunModel):
        super().__init__(run)
        self.runtime.freeze(run.module)
        self.model = cast(LatentModel, run.model)

    def plan(self, request: Request, weights: Tensor | None = None) -> Task:
        """weights: draws n interpolations between two seeds, or one between two pictures."""
        check_one_pass(request)
        seeds = request.image_seeds
        if weights is not None:
            paths = request.n if request.task == "between_seeds" else 1
            seeds, weights = list(range(paths)) * len(weights), weights.repeat_interleave(paths)
        elif request.between is not None:
            seeds, weights = [0] * request.n, request.interpolation_weights()
        prior = self.prior(request.prior)
        codes, inputs = self._codes(request, seeds, prior, weights)

        def images(rows: Sequence[int]) -> Tensor:
            return self._decoded(codes(rows), [seeds[i] for i in rows] if request.pixel_noise else None)

        between = {} if request.between is None else {"between": request.between}
        facts = {"name": request.task, "prior": prior, "pixel_noise": request.pixel_noise} | between
        return Task(in_one_pass(images), seeds, None, 1, 1, inputs, {"task": facts})

    def bits_evaluator(self, options: BitsOptions, seed: int) -> AutoencoderBits:
        return AutoencoderBits(self.model, self.runtime.device, options, seed)

    def animation(self, request: Request, options: AnimationOptions) -> Callable[[Progress], Animation]:
        self.check_animation(options.kind)
        loop = PingPong.of(options.frames)
        return partial(interpolation, self.plan(request, loop.distinct), request, loop, options)

    def prior(self, requested: Prior) -> Literal["normal", "gmm"]:
        """The prior to draw z from. Raises ConfigError when a mixture is requested, but was not fitted."""
        if requested == "gmm" and self.model.mixture is None:
            planned = self.config["model"].get("prior") == "gmm"
            advice = (
                "only the last checkpoint has one: finish training, then name the run directory"
                if planned
                else "train with model.prior=gmm"
            )
            raise ConfigError(f"prior: no mixture has been fitted to the latents of this run; {advice}")
        return ("normal" if self.model.mixture is None else "gmm") if requested == "auto" else requested

    def _codes(
        self, request: Request, seeds: Sequence[int], prior: str, weights: Tensor | None
    ) -> tuple[Codes, dict[str, Tensor]]:
        """The latent z of each row as a function, and the input pictures."""
        model, device = self.model, self.runtime.device
        if request.between is None:
            return lambda rows: _drawn(model, [seeds[i] for i in rows], prior, device), {}
        assert weights is not None
        fractions = weights.float()
        if request.task == "between_seeds":
            ends = [int(end) for end in request.between]

            def spherical(rows: Sequence[int]) -> Tensor:
                one, other = (_drawn(model, [end + seeds[i] for i in rows], prior, device) for end in ends)
                return slerp(one, other, fractions[list(rows)].to(device))

            return spherical, {}
        pictures = [picture_of(str(path), self.shape, "between", self.values) for path in request.between]
        with torch.no_grad():
            mean, log_var = model.encode(torch.cat(pictures).to(device))
        deviation = (0.5 * log_var).exp()

        def linear(rows: Sequence[int]) -> Tensor:
            """Interpolates mean and deviation of q(z|x) with the same eps, so that z keeps the norm of real codes."""
            w = fractions[list(rows), None].to(device)
            eps = ImageNoise([seeds[i] for i in rows]).first((model.latent,), device)
            return torch.lerp(mean[:1], mean[1:], w) + torch.lerp(deviation[:1], deviation[1:], w) * eps

        return linear, {"input": pictures[0], "input_other": pictures[1]}

    def _decoded(self, z: Tensor, seeds: Sequence[int] | None) -> Tensor:
        """The expected image of z; with seeds, a sample of the likelihood around it."""
        out, likelihood = self.model.decode(z), self.model.likelihood
        if seeds is None:
            return likelihood.mean(out)
        streams = ImageNoise([PIXEL_SEEDS + seed for seed in seeds])
        return likelihood.draw(out, torch.special.ndtr(streams(out)).clamp(EDGE, 1 - EDGE))


def _drawn(model: LatentModel, seeds: Sequence[int], prior: str, device: torch.device) -> Tensor:
    """(B,L) samples of the prior. Both priors use the same normal numbers."""
    noise = ImageNoise(seeds)
    eps = noise.first((model.latent,), device)
    if prior == "normal":
        return eps
    assert model.mixture is not None
    return model.mixture.sample(torch.special.ndtr(noise.first((), "cpu").double()), eps)
