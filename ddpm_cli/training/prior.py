"""What is left to do when an autoencoder has been trained: the mixture over its latents, and a map of them."""

import logging
import time
import warnings
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from ..data.images import Images
from ..models.mixture import Mixture
from ..objectives.latent import LatentModel
from ..runs.directory import Run
from .em_steps import start_of
from .plan import Plan
from .randomness import seed_of
from .state import TrainState
from .validation import held_out

DRAWS, MOST_EACH = 20_000, 50
"""z that the mixture is fitted to, and how many of one image: with too few, full covariances learn them by heart."""
ITERATIONS, STRIDE, FLOOR = 100, 5, 1e-3
"""At most so many of EM, in strides between which a signal is heard; added to the variances."""
SILENCE = 10.0
"""Seconds after which a line says how far EM is."""
DOTS = 2000
log = logging.getLogger(__name__)


def lacks_prior(state: TrainState) -> bool:
    """Whether a mixture is wanted and not there yet."""
    return any(mixture is not None and not mixture.fitted for mixture in map(_mixture, _modules(state)))


def forget_prior(state: TrainState) -> None:
    """Before weights change: a mixture belongs to those that it was fitted with, so none is saved until `complete`."""
    for mixture in map(_mixture, _modules(state)):
        if mixture is not None:
            mixture.weights.zero_()


def complete(
    state: TrainState,
    wrap: Callable[[nn.Module], nn.Module],
    images: Images,
    validation: Images,
    plan: Plan,
    run: Run,
    seed: int,
) -> bool:
    """Fit the mixtures of the weights and of their average, save them, and draw samples/latent_map.png.

    Returns:
        False when a signal asked for a stop before the mixtures were fitted: nothing is saved then.
    """
    few = held_out(images, DRAWS)
    before: Mixture | None = None
    for module in reversed(_modules(state)):  # the average first: that of the last weights is close to it
        name = "last weights" if module is state.module else "average weights"
        mixture, model = _mixture(module), cast(LatentModel, wrap(module))
        if mixture is not None:
            log.info("fitting the prior of the %s, a mixture of %d components", name, len(mixture.weights))
            z = draws(model, few, plan.batch_size, seed)
            if not fit_prior(mixture, z, seed, before, lambda: run.stop_signal is not None):
                return False
            before = mixture
    if _mixture(state.module) is not None:
        run.save(state, plan.keep_last, plan.best_by)
    shown = held_out(validation if len(validation) else images, DOTS)
    means, _ = posteriors(cast(LatentModel, wrap(state.weights)), shown, plan.batch_size)
    from ..render.plots.latent import plot_latent  # half a second to import, for autoencoders alone

    path = run.folder / "samples" / "latent_map.png"
    path.parent.mkdir(exist_ok=True)
    plot_latent(path, *plane(means), shown.labels, shown.class_names)
    return True


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
    """(N,L) -> their first two principal components (N,2), and the share of the variance along each."""
    away = z.double() - z.double().mean(0)
    _, values, directions = torch.linalg.svd(away, full_matrices=False)
    points = torch.nn.functional.pad(away @ directions[:2].T, (0, max(0, 2 - len(directions))))
    share = values.square() / values.square().sum().clamp(min=1e-30)
    first = [*share.tolist(), 0.0, 0.0]
    return points, (first[0], first[1])


def _modules(state: TrainState) -> list[nn.Module]:
    return [state.module, *([state.ema.module] if state.ema else [])]


def _mixture(module: nn.Module) -> Mixture | None:
    return cast(Mixture | None, getattr(module, "mixture", None))
