"""A small `ddpm eval` while a model trains: the Frechet distance of a few samples, for trainer.features and best_by."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ..data.images import Images
from ..diffusion.denoiser import Denoiser
from ..diffusion.generate import generate
from ..diffusion.noise import ImageNoise
from ..diffusion.samplers import Sampler
from ..errors import ConfigError
from ..metrics.frechet import frechet_distance
from ..objectives.latent import LatentModel
from ..render.pixels import to_uint8
from ..training.plan import Plan
from ..training.validation import held_out
from .features import check_shape, extractor_of

BATCH = 64
Glance = Callable[[nn.Module], dict[str, float]]
"""A model with the weights of the moment -> {"fd": distance}."""


def glance_of(
    plan: Plan, sampler: Sampler, validation: Images, labels: Tensor | None, trust: Sequence[str], model: nn.Module
) -> Glance | None:
    """None without trainer.features. The seeds are the same at every call, so that steps compare.

    Args:
        validation: the held-out images; at most trainer.eval_images of them are compared with.
        labels: (eval_samples,) the class of each sample, or None.
        model: of the kind that will be looked at.

    Raises:
        CheckpointError, ConfigError: features that cannot be used here.
    """
    if plan.features is None:
        return None
    if not isinstance(model, Denoiser | LatentModel):
        raise ConfigError("trainer.features: is for generators, and this is a classifier; leave it out")
    few = held_out(validation, plan.eval_images)
    if len(few) < 2:
        raise ConfigError("trainer.features: needs held-out images to compare with; set dataset.val_fraction=0.1")
    eyes = extractor_of(plan.features, plan.device, trust)
    check_shape(eyes, few.shape, "trainer.features")
    real: list[Tensor] = []

    def features(pixels: Tensor, what: str) -> Tensor:
        return eyes.features_of(pixels, BATCH, lambda *_: None, what)

    def glance(model: nn.Module) -> dict[str, float]:
        model.eval()
        if not real:
            real.append(features(few.pixels, "held-out images"))
        drawn = to_uint8(_draw(model, sampler, few.shape, plan.eval_samples, labels).cpu())
        return {"fd": frechet_distance(real[0], features(drawn, "samples"))}

    return glance


def _draw(model: nn.Module, sampler: Sampler, shape: Sequence[int], n: int, labels: Tensor | None) -> Tensor:
    if isinstance(model, Denoiser):
        return torch.cat(list(generate(model, sampler, shape, range(n), labels, batch_size=BATCH)))
    assert isinstance(model, LatentModel)
    device = next(model.parameters()).device
    with torch.no_grad():
        z = ImageNoise(range(n)).first((model.latent,), device)
        return torch.cat([model.image(part) for part in z.split(BATCH)])
