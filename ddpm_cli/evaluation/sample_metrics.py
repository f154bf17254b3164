"""The metrics of samples. Each takes a `Case` that `check_feasible` let pass."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ..metrics import classes as say
from ..metrics.frechet import frechet_distance
from ..metrics.kernel import kernel_distance, subset_size
from ..metrics.neighbours import Nearest, nearest, precision_recall
from ..metrics.resample import mean
from ..render.plots.pairs import Pairs, pairs_plot
from ..runs.images import shuffled
from .case import Case
from .finding import Finding, Row

CLOSEST = 0.01
"""Share of the held-out images that are nearest to a training image: closer than these, a sample is suspect."""
SHOWN = 10
UNSEEN = 2000
"""Held-out images that are compared, unless there are more samples: a percent of them is enough to be a measure."""


def fd(case: Case) -> Finding:
    """Frechet distance; its spread resamples both sets."""
    real, control = case.real_features, case.control_features
    estimate = case.bootstrap(lambda fake, of: frechet_distance(of, fake), case.sample_features, real)
    best = None if control is None else frechet_distance(real, control)
    return Finding({"fd": Row(estimate, best, "{:.3f}")}, note=_of_few(case))


def _of_few(case: Case) -> str:
    """The distance grows with 1 / n, and most where covariances are not even of full rank (Chong & Forsyth 2020)."""
    (n, width), n_real = case.sample_features.shape, len(case.real_features)
    if min(n, n_real) > width:
        return ""
    few = f"{n} samples" if n <= n_real else f"{n_real} real images"
    return f"fd: {few} are few for {width} features, it is larger than of many; kd has no such bias"


def kd(case: Case) -> Finding:
    """Kernel distance: mean and spread over subsets."""
    real, control, fake = case.real_features, case.control_features, case.sample_features
    subsets = max(case.options.resamples, 2)
    size = subset_size(len(real), len(fake))
    estimate = kernel_distance(real, fake, subsets, case.seed, size)
    best = None if control is None or len(control) < size else kernel_distance(real, control, subsets, case.seed, size)
    settings = {"subsets": subsets, "subset_size": size}
    return Finding({"kd": Row(estimate, None if best is None else best.value, "{:.4f}", settings)})


def pr(case: Case) -> Finding:
    """Precision and recall; the spread resamples the yes and no of each image, with the balls as they are."""
    k = case.options.neighbours
    found = precision_recall(case.real_features, case.sample_features, k)
    control = case.control_features
    best = None
    if control is not None and len(control) > k:
        best = precision_recall(case.real_features, control, k)
    settings = {"neighbours": k}
    return Finding(
        {
            name: Row(case.bootstrap(mean, yes), None if best is None else mean(best[i]), "{:.1%}", settings)
            for i, (name, yes) in enumerate(zip(("precision", "recall"), found, strict=True))
        }
    )


def classes(case: Case) -> Finding:
    """What the classifier says: how many kinds there are, how sure it is, and whether it sees what was asked for."""
    fake = case.probabilities(case.samples.pixels, "samples")
    real = None
    if case.control is not None:  # held-out ones: the classifier may know the training images by heart
        real = case.probabilities(case.real.pixels, "real images")
    kinds: list[tuple[str, Callable[[Tensor], float], str]] = [
        ("class entropy, bits", say.marginal_entropy, "{:.3f}"),
        ("entropy of an image, bits", say.mean_entropy, "{:.3f}"),
        ("score (exp KL)", say.score, "{:.3f}"),
        ("confidence", say.confidence, "{:.1%}"),
    ]
    rows = {
        name: Row(case.bootstrap(statistic, fake), None if real is None else statistic(real), form)
        for name, statistic, form in kinds
    }
    detail = {"answers": torch.bincount(fake.argmax(1), minlength=fake.shape[1]).tolist()}
    if case.samples.labels is None or not case.eyes.class_names:
        return Finding(rows, {"classes": detail})
    labels, answers = case.samples.labels, fake.argmax(1)
    seen = None
    if real is not None and case.real.class_names == case.eyes.class_names:
        seen = mean(real.argmax(1) == case.real.labels)
    rows["seen as asked"] = Row(case.bootstrap(mean, answers == labels), seen, "{:.1%}")
    shares = say.per_class(say.confusion(labels, answers, fake.shape[1]))
    each = dict(zip(case.eyes.class_names, shares, strict=True))
    return Finding(rows, {"classes": detail | {"seen_as_asked": each}})


def memorisation(case: Case) -> Finding:
    """How near samples are to training images, against held-out images; root mean square grey levels of 255."""
    mirrored = case.train.flip
    of_samples = nearest(case.samples.pixels, case.train.pixels, mirrored)
    order = shuffled(len(case.unseen), case.seed)[: max(UNSEEN, len(case.samples.pixels))]
    unseen = case.unseen.pixels[order]
    of_unseen = nearest(unseen, case.train.pixels, mirrored)
    limit = float(of_unseen.distance.double().quantile(CLOSEST))
    median = float(of_unseen.distance.double().median())
    settings = {"unseen": len(unseen), "train": len(case.train), "mirrored": mirrored}
    rows = {
        "distance to training, median": Row(
            case.bootstrap(lambda d: float(d.double().median()), of_samples.distance),
            median,
            "{:.2f}",
            settings,
            "pixels",
        ),
        f"closer than closest {CLOSEST:.0%}": Row(
            case.bootstrap(mean, of_samples.distance < limit),
            mean(of_unseen.distance < limit),
            "{:.1%}",
            settings,
            "pixels",
        ),
    }
    detail = {
        "ratio_of_medians": rows["distance to training, median"].estimate.value / median if median else None,
        "limit": limit,
        "samples": _quantiles(of_samples.distance),
        "unseen": _quantiles(of_unseen.distance),
    }
    pictures = {"pairs.png": _painter(case, of_samples, unseen, of_unseen)}
    return Finding(rows, {"memorisation": detail}, pictures)


def _painter(case: Case, of_samples: Nearest, unseen: Tensor, of_unseen: Nearest) -> Callable[[Path], None]:
    def closest(pixels: Tensor, found: Nearest) -> Pairs:
        order = found.distance.argsort()[:SHOWN]
        return Pairs(pixels[order], case.train.pixels[found.which[order]], found.distance[order].tolist())

    blocks = {
        "samples": closest(case.samples.pixels, of_samples),
        "held-out images": closest(unseen, of_unseen),
    }
    return lambda path: pairs_plot(path, blocks)


def _quantiles(distances: Tensor) -> dict[str, float]:
    at = [0.0, 0.01, 0.1, 0.5, 0.9]
    found = distances.double().quantile(torch.tensor(at, dtype=torch.float64)).tolist()
    return {f"{q:.0%}": value for q, value in zip(at, found, strict=True)}


JUDGES: dict[str, Callable[[Case], Finding]] = {
    "fd": fd,
    "kd": kd,
    "pr": pr,
    "classes": classes,
    "memorisation": memorisation,
}
