"""The last part of training an autoencoder: a mixture is fitted to its latents, and a map of them is drawn."""

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
"""The number of z the mixture is fitted to, and at most of one image. With too few, full covariances overfit."""
ITERATIONS, STRIDE, FLOOR = 100, 5, 1e-3
"""The most iterations of EM; how often signals are checked, in iterations; the value added to the variances."""
SILENCE = 10.0
"""Seconds between log lines that report the progress of EM."""
DOTS = 2000
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PriorFit:
    """Fits the mixture priors of a model with the last weights and of a model with their average, if there is one."""

    last: LatentModel
    average: LatentModel | None
    batch_size: int
    seed: int

    @property
    def wanted(self) -> bool:
        return self.last.backbone.mixture is not None

    @property
    def lacking(self) -> bool:
        """Whether a mixture is wanted and not fitted yet."""
        return any(not mixture.fitted for mixture in self._mixtures)

    def forget(self) -> None:
        """Reset the mixtures, before the weights change: a mixture is valid only for the weights it was fitted to."""
        for mixture in self._mixtures:
            mixture.weights.zero_()

    def run(self, images: Images, stop: Callable[[], bool]) -> bool:
        """Fit the mixtures. Returns False when stopped before they were fitted."""
        subset, before = at_most(images, DRAWS), None
        # the average first: the mixture of the last weights is close to it and starts from it
        for name, model in (("average weights", self.average), ("last weights", self.last)):
            mixture = None if model is None else model.backbone.mixture
            if model is not None and mixture is not None:
                log.info("fitting the prior for the %s: a mixture of %d components", name, len(mixture.weights))
                z = draws(model, subset, self.batch_size, self.seed)
                if not fit_prior(mixture, z, self.seed, before, stop):
                    return False
                before = mixture
        return True

    def draw_map(self, path: Path, images: Images) -> None:
        """A picture of where the encoder puts a subset of `images`."""
        subset = at_most(images, DOTS)
        means, _ = posteriors(self.average or self.last, subset, self.batch_size)
        from ..render.plots.latent import plot_latent  # takes half a second to import

        path.parent.mkdir(exist_ok=True)
        plot_latent(path, *plane(means), subset.labels, subset.class_names)

    @property
    def _mixtures(self) -> list[Mixture]:
        models = [model for model in (self.last, self.average) if model is not None]
        return [m.backbone.mixture for m in models if m.backbone.mixture is not None]


def draws(model: LatentModel, images: Images, batch_size: int, seed: int) -> Tensor:
    """(M,L) on the host: samples of q(z|x), several per image if there are few images."""
    times = min(max(DRAWS // len(images), 1), MOST_EACH)
    generator = torch.Generator().manual_seed(seed_of(seed, 2))
    mean, log_var = (v.repeat(times, 1) for v in posteriors(model, images, batch_size))
    return mean + (0.5 * log_var).exp() * torch.randn(mean.shape, generator=generator)


def posteriors(model: LatentModel, images: Images, batch_size: int) -> tuple[Tensor, Tensor]:
    """Mean and log-variance (N,L) of q(z|x) of every image, on the host."""
    model.eval()
    device = next(model.parameters()).device
    with torch.no_grad():
        encoded = [model.encode(batch.x) for batch in images.chunks(batch_size, device)]
    mean, log_var = (torch.cat(batches).cpu() for batches in zip(*encoded, strict=True))
    return mean, log_var


def fit_prior(
    mixture: Mixture,
    z: Tensor,
    seed: int,
    begin: Mixture | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Fit a mixture by EM to samples (N,L) of q(z|x) of the training images, their aggregate posterior.

    Args:
        begin: a fitted mixture to start from; None = k-means.
        stop: called every few iterations; when it returns True, the mixture is left unchanged.

    Returns:
        False when stopped.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    k = min(len(mixture.weights), len(z))
    if k < 2:
        return True
    start = {} if begin is None or k < len(begin.weights) else start_of(begin)
    state = seed_of(seed) % 2**32
    em = GaussianMixture(k, reg_covar=FLOOR, max_iter=STRIDE, warm_start=True, random_state=state, **start)
    points, last_logged = z.double().numpy(), time.monotonic()
    for done in range(STRIDE, ITERATIONS + 1, STRIDE):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            em.fit(points)
        if em.converged_:
            log.info("fitted the prior in %d iterations", done - STRIDE + em.n_iter_)
            break
        if stop():
            return False
        if time.monotonic() - last_logged > SILENCE:
            log.info("fitting the prior: iteration %d of at most %d", done, ITERATIONS)
            last_logged = time.monotonic()
    mixture.fill(*(torch.from_numpy(v) for v in (em.weights_, em.means_, em.covariances_)))
    return True


def plane(z: Tensor) -> tuple[Tensor, tuple[float, float]]:
    """The first two principal components (N,2) of z (N,L), and the fraction of the variance along each."""
    centered = z.double() - z.double().mean(0)
    _, values, directions = torch.linalg.svd(centered, full_matrices=False)
    points = torch.nn.functional.pad(centered @ directions[:2].T, (0, max(0, 2 - len(directions))))
    fractions = values.square() / values.square().sum().clamp(min=1e-30)
    first = [*fractions.tolist(), 0.0, 0.0]
    return points, (first[0], first[1])
