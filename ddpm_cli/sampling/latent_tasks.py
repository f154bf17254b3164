"""A request -> what draws it at once from an autoencoder or a mixture."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ..build import Node
from ..diffusion.editing import slerp
from ..diffusion.noise import ImageNoise
from ..diffusion.samplers import Frame
from ..errors import ConfigError
from ..models.gmm import GMM
from ..objectives.latent import LatentModel
from .generator import Direct, Prior, draws
from .inputs import Request, picture_of
from .tasks import Task

EDGE = 1e-6
"""How close to 0 and 1 a uniform number may come: at them, a normal one would be infinite."""


def check_unguided(guidance: Node, asked: tuple[Any, Any]) -> None:
    """Raises ConfigError for guidance or a class: these generators know none."""
    if not str(guidance.get("_target_", "")).endswith(".Unguided"):
        raise ConfigError("guidance: is for diffusion models; use guidance=none")
    if asked != (None, None):
        raise ConfigError("label: this model knows no classes; leave it out, or train a diffusion model")


def check_diffusion(prior: Prior, pixel_noise: bool = False) -> None:
    """Raises ConfigError for what a diffusion model does not have."""
    if prior != "auto":
        raise ConfigError("prior: belongs to autoencoders, and this is a diffusion model; leave it out")
    if pixel_noise:
        raise ConfigError("pixel_noise: belongs to autoencoders and mixtures; leave it out for a diffusion model")


def direct_task(
    request: Request,
    loaded: Direct,
    seeds: Sequence[int],
    asked: Prior,
    pixel_noise: bool = False,
    weights: Tensor | None = None,
) -> Task:
    """One image for each seed. Between two seeds, seeds[i] is added to both and weights[i] says how far along it is.

    Args:
        pixel_noise: also draw the noise of the likelihood, where otherwise the expected image is shown.

    Raises:
        ConfigError: what only diffusion models can do.
    """
    if request.init is not None:
        raise ConfigError("init: is for diffusion models; between=[PATH,PATH] takes pictures here")
    if request.strength is not None:
        raise ConfigError("strength: is for diffusion models; leave it out")
    prior = loaded.prior(asked)
    facts = {"name": request.kind, "prior": prior, "pixel_noise": pixel_noise}
    if isinstance(loaded.model, GMM):
        if request.between is not None:
            raise ConfigError("between: a Gaussian mixture has no way from one image to another; use a run of a VAE")
        mixture = loaded.model
        return _at_once(lambda rows: draws(mixture, [seeds[i] for i in rows], pixel_noise), 0, facts)
    assert prior is not None
    codes, inputs = _codes(request, loaded, seeds, prior, weights)

    def images(rows: Sequence[int]) -> Tensor:
        return _decoded(loaded, codes(rows), [seeds[i] for i in rows] if pixel_noise else None)

    between = {} if request.between is None else {"between": request.between}
    return _at_once(images, 1, facts | between, inputs)


def _at_once(
    images: Callable[[Sequence[int]], Tensor],
    calls: int,
    facts: dict[str, Any],
    inputs: dict[str, Tensor] | None = None,
) -> Task:
    """A task of a single step."""

    def frames(rows: Sequence[int]) -> Iterator[Frame]:
        with torch.no_grad():
            x = images(rows)
        yield Frame(1.0, x, x)
        yield Frame(0.0, x, x)

    return Task(frames, 1, calls, inputs or {}, facts)


Codes = Callable[[Sequence[int]], Tensor]
"""Rows -> z (B,L)."""


def _codes(
    request: Request, loaded: Direct, seeds: Sequence[int], prior: str, weights: Tensor | None
) -> tuple[Codes, dict[str, Tensor]]:
    """Where in the latent space each row is, and the pictures that this was made from."""
    assert isinstance(loaded.model, LatentModel)
    model, device = loaded.model, loaded.runtime.device
    if request.between is None:
        return lambda rows: _drawn(model, [seeds[i] for i in rows], prior, device), {}
    assert weights is not None
    way = weights.float()
    if request.kind == "between_seeds":
        ends = [int(end) for end in request.between]

        def spherical(rows: Sequence[int]) -> Tensor:
            one, other = (_drawn(model, [end + seeds[i] for i in rows], prior, device) for end in ends)
            return slerp(one, other, way[list(rows)].to(device))

        return spherical, {}
    pictures = [picture_of(str(path), loaded.shape, "between") for path in request.between]
    with torch.no_grad():
        mean, log_var = model.encode(torch.cat(pictures).to(device))
    deviation = (0.5 * log_var).exp()

    def linear(rows: Sequence[int]) -> Tensor:
        """Between q(z|x) of both, with one eps, so that z is as long in the middle as the decoder knows it."""
        w = way[list(rows), None].to(device)
        eps = ImageNoise([seeds[i] for i in rows]).first((model.latent,), device)
        return torch.lerp(mean[:1], mean[1:], w) + torch.lerp(deviation[:1], deviation[1:], w) * eps

    return linear, {"input": pictures[0], "input_other": pictures[1]}


def _drawn(model: LatentModel, seeds: Sequence[int], prior: str, device: torch.device) -> Tensor:
    """(B,L) draws from the prior. Both priors begin with the same normal numbers."""
    noise = ImageNoise(seeds)
    eps = noise.first((model.latent,), device)
    if prior == "normal":
        return eps
    assert model.mixture is not None
    return model.mixture.sample(torch.special.ndtr(noise.first((), "cpu").double()), eps)


def _decoded(loaded: Direct, z: Tensor, seeds: Sequence[int] | None) -> Tensor:
    assert isinstance(loaded.model, LatentModel)
    out, likelihood = loaded.model.decode(z), loaded.model.likelihood
    if seeds is None:
        return likelihood.mean(out)
    streams = ImageNoise([2**41 + seed for seed in seeds])  # not those that z came from
    return likelihood.draw(out, torch.special.ndtr(streams(out)).clamp(EDGE, 1 - EDGE))
