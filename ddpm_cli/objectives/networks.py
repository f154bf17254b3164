"""Checks that a network is of the kind that an objective can train."""

from torch import nn

from ..models.classifier_layers import Classifier
from ..models.gmm import GMM
from ..models.latent import Autoencoder

NOT_DENOISERS = (
    (Classifier, "a classifier", "classify"),
    (Autoencoder, "this model", "elbo"),
    (GMM, "this model", "em"),
)
"""Networks that do not denoise: their class, their name in messages, the objective that trains them."""


def check_denoiser(module: nn.Module) -> None:
    """Raises ValueError, naming the objective, for a network that does not denoise."""
    for kind, name, objective in NOT_DENOISERS:
        if isinstance(module, kind):
            raise ValueError(f"objective: {name} cannot denoise; use objective={objective} or another model")


def as_classifier(module: nn.Module, noisy: bool) -> Classifier:
    """Raises ValueError, naming the objective, unless it is a classifier, which also takes the time if `noisy`."""
    if not isinstance(module, Classifier):
        raise ValueError("objective: classify needs a classifier; use model=unet_classifier or model=resnet")
    if noisy and not module.timed:
        raise ValueError(
            "objective.noisy: this network does not take the noise level; "
            "use objective=classify_clean or model=unet_classifier"
        )
    return module


def as_autoencoder(module: nn.Module) -> Autoencoder:
    """Raises ValueError, naming the objective, unless it is an autoencoder."""
    if not isinstance(module, Autoencoder):
        raise ValueError("objective: elbo needs an autoencoder; use model=vae or model=vae_conv")
    return module


def as_mixture(module: nn.Module) -> GMM:
    """Raises ValueError, naming the objective, unless it is a mixture."""
    if not isinstance(module, GMM):
        raise ValueError("objective: em needs a Gaussian mixture; use model=gmm")
    return module
