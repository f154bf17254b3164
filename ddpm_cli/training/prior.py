"""What is left to do when an autoencoder has been trained: the mixture over its latents, and a map of them."""

import logging
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..data.images import Images
from ..models.mixture import Mixture
from ..objectives.latent import LatentModel
from .em_steps import start_of
from .randomness import seed_of
from .validation import at_most

DRAWS, MOST_EACH = 20_000, 50
"""z that the mixture is fitted to, and how many of one image: with too few, full covariances learn them by heart."""
ITERATIONS, STRIDE, FLOOR = 100, 5, 1e-3
"""At most so many of EM, in strides between which a signal is heard; added to the variances."""
SILENCE = 10.0
"""Seconds after which a line says how far EM is."""
DOTS = 2000
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PriorFit:
    """The mixtures of a model with the last weights and with their average (None without one)."""

    last: LatentModel
    average: LatentModel | None
    batch_size: int
    seed: int

    @property
    def wanted(self) -> bool:
        return self.last.backbone.mixture is not None

    @property
    def lacking(self) -> bool:
        """Whether a mixture is wanted and not there yet."""
        return any(not mixture.fitted for mixture in self._mixtures)

    def forget(self) -> None:
        """Before weights change: a mixture belongs to those that it was fitted with, so none is saved until `run`."""
        for mixture in self._mixtures:
            mixture.weights.zero_()

    def run(self, images: Images, stop: Callable[[], bool]) -> bool:
        """Fit the mixtures. Returns False when it was stopped before they were fitted."""
        few, before = at_most(images, DRAWS), None
        # the average first: the mixture of the last weights is close to it
        for name, model in (("average weights", self.average), ("last weights", self.last)):
            mixture = None if model is None else model.backbone.mixture
            if model is not None and mixture is not None:
                log.info("fitting the prior of the %s, a mixture of %d components", name, len(mixture.weights))
                z = draws(model, few, self.batch_size, self.seed)
                if not fit_prior(mixture, z, self.seed, before, stop):
                    return False
                before = mixture
        return True

    def draw_map(self, path: Path, images: Images) -> None:
        """Where the encoder puts some of `images`, as a picture."""
        some = at_most(images, DOTS)
        means, _ = posteriors(self.average or self.last, some, self.batch_size)
        from ..render.plots.latent import plot_latent  # half a second to import, for autoencoders alone

        path.parent.mkdir(exist_ok=True)
        plot_latent(path, *plane(means), some.labels, some.class_names)

    @property
    def _mixtures(self) -> list[Mixture]:
        models = [model for model in (self.last, self.average) if model is not None]
        return [m.backbone.mixture for m in models if m.backbone.mixture is not None]


def draws(model: LatentModel, images: Images, batch_size: int, seed: int) -> Tensor:
    """(M,L) on the host: draws from q(z|x), of few images several each."""
    times = min(max(DRAWS // len(images), 1), MOST_EACH)
    generator = torch.Generator().manual_seed(seed_of(seed, 2))
    mean, log_var = (v.repeat(times, 1) for v in posteriors(model, images, batch_size))
    return mean + (0.5 * log_var).exp() * torch.randn(mean.shape, generator=generator)


def posteriors(model: LatentModel, images: Images, batch_size: int) -> tuple[Tensor, Tensor]:
    """Mean and log-variance (N,L) of q(z|x) of every image, on the host."""
    model.eval()
    device = next(model.parameters()).device
    with torch.no_grad():
        found = [model.encode(batch.x) for batch in images.chunks(batch_size, device)]
    mean, log_var = (torch.cat(parts).cpu() for parts in zip(*found, strict=True))
    return mean, log_var


def fit_prior(
    mixture: Mixture,
    z: Tensor,
    seed: int,
    begin: Mixture | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> bool:
    """EM on draws (N,L) from q(z|x) of the training images, whose distribution the prior should have been.

    Args:
        begin: a fitted mixture to start from; None = k-means.
        stop: asked now and then; True leaves the mixture as it is.

    Returns:
        False when it was stopped.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    k = min(len(mixture.weights), len(z))
    if k < 2:
        return True
    known = {} if begin is None or k < len(begin.weights) else start_of(begin)
    chance = seed_of(seed) % 2**32
    by_em = GaussianMixture(k, reg_covar=FLOOR, max_iter=STRIDE, warm_start=True, random_state=chance, **known)
    points, told = z.double().numpy(), time.monotonic()
    for done in range(STRIDE, ITERATIONS + 1, STRIDE):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            by_em.fit(points)
        if by_em.converged_:
            log.info("fitted in %d iterations", done - STRIDE + by_em.n_iter_)
            break
        if stop():
            return False
        if time.monotonic() - told > SILENCE:
            log.info("fitting the prior: %d iterations, %d at most", done, ITERATIONS)
            told = time.monotonic()
    mixture.fill(*(torch.from_numpy(v) for v in (by_em.weights_, by_em.means_, by_em.covariances_)))
    return True


def plane(z: Tensor) -> tuple[Tensor, tuple[float, float]]:
    """(N,L) -> their first two principal components (N,2), and the fraction of the variance along each."""
    away = z.double() - z.double().mean(0)
    _, values, directions = torch.linalg.svd(away, full_matrices=False)
    points = torch.nn.functional.pad(away @ directions[:2].T, (0, max(0, 2 - len(directions))))
    fractions = values.square() / values.square().sum().clamp(min=1e-30)
    first = [*fractions.tolist(), 0.0, 0.0]
    return points, (first[0], first[1])
