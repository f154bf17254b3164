"""Generators that draw an image at once, without a sampler: autoencoders and Gaussian mixtures."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from ..build import build
from ..diffusion.noise import ImageNoise
from ..errors import ConfigError
from ..hardware.options import Precision
from ..models.gmm import GMM
from ..objectives.elbo import ELBO
from ..objectives.em import EM
from ..objectives.latent import LatentModel
from ..runs import checkpoint
from ..runs.assemble import wrapper_of
from ..runs.checkpoint import Checkpoint
from ..runs.load import Loaded, Opened

Prior = Literal["auto", "normal", "gmm"]


class Direct(Opened):
    """Such a generator ready to draw from. Raises what `Opened` raises."""

    idle = ("sampler", "guidance")

    def __init__(self, ckpt: str | Checkpoint, weights: str, device: str, precision: Precision, trust: Sequence[str]):
        super().__init__(ckpt, weights, device, precision, trust)
        objective = build(self.config["objective"], "objective", trust=self.trusted)
        model = wrapper_of(self.config, self.runtime, objective, self.trusted)(self.module)
        assert isinstance(model, LatentModel | GMM)
        self.model = model

    @property
    def name(self) -> str:
        """What it is, as users say it."""
        return "a mixture" if isinstance(self.model, GMM) else "an autoencoder"

    def prior(self, asked: Prior) -> Literal["normal", "gmm"] | None:
        """The one to draw z from; None where there is no z.

        Raises:
            ConfigError: a mixture that is not there.
        """
        if isinstance(self.model, GMM):
            if asked != "auto":
                raise ConfigError("prior: belongs to autoencoders, and this is a Gaussian mixture; leave it out")
            return None
        if asked == "gmm" and self.model.mixture is None:
            planned = self.config["model"].get("prior") == "gmm"
            advice = (
                "the last checkpoint has one: run ddpm train to its end, or name the run"
                if planned
                else "train with model.prior=gmm"
            )
            raise ConfigError(f"prior: no mixture has been fitted to the latents of this run; {advice}")
        return ("normal" if self.model.mixture is None else "gmm") if asked == "auto" else asked


def open_run(
    ckpt: str | Checkpoint, weights: str, device: str, precision: Precision, trust: Sequence[str]
) -> Loaded | Direct:
    """What `ckpt` holds. Raises what `Opened` raises."""
    found = checkpoint.find(ckpt) if isinstance(ckpt, str) else ckpt
    objective = build(found.manifest["config"]["objective"], "objective", trust={"ddpm_cli", *trust})
    kind = Direct if isinstance(objective, ELBO | EM) else Loaded
    return kind(found, weights, device, precision, trust)


def draws(module: GMM, seeds: range | list[int], pixel_noise: bool) -> Tensor:
    """An image (C,H,W) in [-1, 1] for each seed, (N,C,H,W); with `pixel_noise`, of the density itself."""
    noise = ImageNoise(seeds)
    u = torch.special.ndtr(noise.first((), "cpu").double())
    eps = noise.first((module.dimensions,), "cpu")
    return module.sample(u, eps, noise.first(module.shape, "cpu") if pixel_noise else None)
