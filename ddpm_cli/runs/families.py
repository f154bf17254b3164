"""The table of all families of models. A new family needs its own files and an entry here."""

from typing import NamedTuple

from torch import nn

from ..diffusion.classifier import NoisyClassifier
from ..diffusion.denoiser import Denoiser
from ..models.gmm import GMM
from ..objectives.latent import LatentModel


class Family(NamedTuple):
    """
    Args:
        model: the class that the objective's `wrap` returns.
        opened: the class of an opened run, see `load.LoadedRun`.
        trained: the class that trains the model, see `training.session.Session`.

    The last two are in folders that may import this one. They are given by path, as in conf/, and imported only when a
    run of that family is opened or trained.
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
"""For a user's own model class: it can be trained, but the program does not know how to use it."""


def family_of(model: nn.Module) -> Family:
    """The family of `model`; OTHER for an unknown class."""
    return next((family for family in FAMILIES if isinstance(model, family.model)), OTHER)
