"""The one table of the kinds of model. Adding one is its own files and a line here."""

from typing import NamedTuple

from torch import nn

from ..diffusion.classifier import NoisyClassifier
from ..diffusion.denoiser import Denoiser
from ..models.gmm import GMM
from ..objectives.latent import LatentModel


class Family(NamedTuple):
    """
    Args:
        model: what the objective makes of a network.
        opened: the class that an opened run of it is, see `load.LoadedRun`.
        trained: the class that trains it, see `training.session.Session`.

    Both classes stand in folders above this one. They are named by their path, as conf/ names classes, and imported
    when a run of that family is opened or trained.
    """

    model: type[nn.Module]
    opened: str
    trained: str


FAMILIES = (
    Family(
        Denoiser,
        "ddpm_cli.sampling.diffusion.DiffusionGenerator",
        "ddpm_cli.training.diffusion.DiffusionSession",
    ),
    Family(
        LatentModel,
        "ddpm_cli.sampling.autoencoder.AutoencoderGenerator",
        "ddpm_cli.training.autoencoder.AutoencoderSession",
    ),
    Family(
        GMM,
        "ddpm_cli.sampling.mixture.MixtureGenerator",
        "ddpm_cli.training.mixture.MixtureSession",
    ),
    Family(
        NoisyClassifier,
        "ddpm_cli.sampling.classifier.LoadedClassifier",
        "ddpm_cli.training.classifier.ClassifierSession",
    ),
)
OTHER = Family(nn.Module, "ddpm_cli.runs.load.LoadedRun", "ddpm_cli.training.session.Session")
"""What a class of the user's own makes: it trains, and nothing is known of how to use it."""


def family_of(model: nn.Module) -> Family:
    """The first whose class `model` is of."""
    return next((family for family in FAMILIES if isinstance(model, family.model)), OTHER)
