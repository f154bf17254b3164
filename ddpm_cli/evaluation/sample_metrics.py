"""The metrics of samples, and the table of all of them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..data.images import Images
from ..errors import ConfigError, DataError
from ..metrics import classes as answers_of
from ..metrics.frechet import frechet_distance
from ..metrics.kernel import kernel_distance, subset_size
from ..metrics.neighbours import Nearest, nearest, precision_recall
from ..metrics.resample import mean
from ..render.plots.pairs import Pairs, pairs_plot
from ..runs.images import shuffled
from .cas import cas
from .comparison import Comparison
from .extractor import Extractor
from .result import MetricResult, MetricValue
from .samples import PendingSamples

CLOSEST = 0.01
"""A sample is suspicious if it is closer to a training image than the closest fraction of held-out images."""
SHOWN = 10
UNSEEN = 2000
"""Held-out images to compare with, unless there are more samples. One percent of them is enough for the quantile."""


def fd(case: Comparison) -> MetricResult:
    """Frechet distance; both sets are resampled for its spread."""
    real, control = case.real_features, case.control_features
    estimate = case.bootstrap(lambda fake, true: frechet_distance(true, fake), case.sample_features, real)
    best = None if control is None else frechet_distance(real, control)
    return MetricResult({"fd": MetricValue(estimate, best, "{:.3f}")}, note=_bias_note(case))


def _bias_note(case: Comparison) -> str:
    """A note if there are too few images. The bias is proportional to 1 / n and largest when the covariances do not
    have full rank (Chong & Forsyth 2020)."""
    (n, width), n_real = case.sample_features.shape, len(case.real_features)
    if min(n, n_real) > width:
        return ""
    images = f"{n} samples" if n <= n_real else f"{n_real} real images"
    return f"fd is biased upwards: {images} are too few for {width} features; kd has no such bias"


def kd(case: Comparison) -> MetricResult:
    """Kernel distance: its mean and spread over subsets."""
    real, control, fake = case.real_features, case.control_features, case.sample_features
    subsets = max(case.options.resamples, 2)
    size = subset_size(len(real), len(fake))
    estimate = kernel_distance(real, fake, subsets, case.options.seed, size)
    best = (
        None
        if control is None or len(control) < size
        else kernel_distance(real, control, subsets, case.options.seed, size)
    )
    settings = {"subsets": subsets, "subset_size": size}
    return MetricResult({"kd": MetricValue(estimate, None if best is None else best.value, "{:.4f}", settings)})


def pr(case: Comparison) -> MetricResult:
    """Precision and recall. For the spread, the decisions for single images are resampled; the balls are kept."""
    k = case.options.neighbours
    decisions = precision_recall(case.real_features, case.sample_features, k)
    control = case.control_features
    best = None
    if control is not None and len(control) > k:
        best = precision_recall(case.real_features, control, k)
    settings = {"neighbours": k}
    return MetricResult(
        {
            name: MetricValue(case.bootstrap(mean, inside), None if best is None else mean(best[i]), "{:.1%}", settings)
            for i, (name, inside) in enumerate(zip(("precision", "recall"), decisions, strict=True))
        }
    )


def classes(case: Comparison) -> MetricResult:
    """The classifier's view of the samples: diversity of classes, confidence, agreement with the requested class."""
    fake = case.probabilities(case.samples.pixels, "samples")
    real = None
    if case.control is not None:  # held-out images, because the classifier may have memorised its training images
        real = case.probabilities(case.real.pixels, "real images")
    kinds: list[tuple[str, Callable[[Tensor], float], str]] = [
        ("class entropy, bits", answers_of.marginal_entropy, "{:.3f}"),
        ("entropy of an image, bits", answers_of.mean_entropy, "{:.3f}"),
        ("score (exp KL)", answers_of.score, "{:.3f}"),
        ("confidence", answers_of.confidence, "{:.1%}"),
    ]
    values = {
        name: MetricValue(case.bootstrap(statistic, fake), None if real is None else statistic(real), form)
        for name, statistic, form in kinds
    }
    detail = {"answers": torch.bincount(fake.argmax(1), minlength=fake.shape[1]).tolist()}
    if case.samples.labels is None or not case.extractor.class_names:
        return MetricResult(values, {"classes": detail})
    labels, answers = case.samples.labels, fake.argmax(1)
    seen = None
    if real is not None and case.real.class_names == case.extractor.class_names:
        seen = mean(real.argmax(1) == case.real.labels)
    values["seen as asked"] = MetricValue(case.bootstrap(mean, answers == labels), seen, "{:.1%}")
    fractions = answers_of.per_class(answers_of.confusion(labels, answers, fake.shape[1]))
    each = dict(zip(case.extractor.class_names, fractions, strict=True))
    return MetricResult(values, {"classes": detail | {"seen_as_asked": each}})


def memorisation(case: Comparison) -> MetricResult:
    """Distance of samples to the nearest training image, compared with held-out images; RMS in grey levels of 255."""
    mirrored = case.train.flip
    of_samples = nearest(case.samples.pixels, case.train.pixels, mirrored)
    order = shuffled(len(case.unseen), case.options.seed)[: max(UNSEEN, len(case.samples.pixels))]
    unseen = case.unseen.pixels[order]
    of_unseen = nearest(unseen, case.train.pixels, mirrored)
    limit = float(of_unseen.distance.double().quantile(CLOSEST))
    median = float(of_unseen.distance.double().median())
    settings = {"unseen": len(unseen), "train": len(case.train), "mirrored": mirrored}
    values = {
        "distance to training, median": MetricValue(
            case.bootstrap(lambda d: float(d.double().median()), of_samples.distance),
            median,
            "{:.2f}",
            settings,
            "pixels",
        ),
        f"closer than closest {CLOSEST:.0%}": MetricValue(
            case.bootstrap(mean, of_samples.distance < limit),
            mean(of_unseen.distance < limit),
            "{:.1%}",
            settings,
            "pixels",
        ),
    }
    detail = {
        "ratio_of_medians": values["distance to training, median"].estimate.value / median if median else None,
        "limit": limit,
        "samples": _quantiles(of_samples.distance),
        "unseen": _quantiles(of_unseen.distance),
    }
    pictures = {"pairs.png": _closest_pairs(case, of_samples, unseen, of_unseen)}
    return MetricResult(values, {"memorisation": detail}, pictures)


def _closest_pairs(case: Comparison, of_samples: Nearest, unseen: Tensor, of_unseen: Nearest) -> Callable[[Path], None]:
    def closest(pixels: Tensor, neighbours: Nearest) -> Pairs:
        order = neighbours.distance.argsort()[:SHOWN]
        return Pairs(pixels[order], case.train.pixels[neighbours.which[order]], neighbours.distance[order].tolist())

    blocks = {
        "samples": closest(case.samples.pixels, of_samples),
        "held-out images": closest(unseen, of_unseen),
    }
    return lambda path: pairs_plot(path, blocks)


def _quantiles(distances: Tensor) -> dict[str, float]:
    levels = [0.0, 0.01, 0.1, 0.5, 0.9]
    quantiles = distances.double().quantile(torch.tensor(levels, dtype=torch.float64)).tolist()
    return {f"{level:.0%}": value for level, value in zip(levels, quantiles, strict=True)}


class SampleMetric(NamedTuple):
    """One entry of the table.

    Args:
        measure: computes the metric.
        least: the minimum number of samples and of real images, as a function of the neighbours k.
        features: whether it needs an extractor.
        automatic: whether metrics=auto includes it.
    """

    measure: Callable[[Comparison], MetricResult]
    least: Callable[[int], int] = lambda neighbours: 1
    features: bool = True
    automatic: bool = True


METRICS = {
    "fd": SampleMetric(fd, lambda neighbours: 2),
    "kd": SampleMetric(kd, lambda neighbours: 4),
    "pr": SampleMetric(pr, lambda neighbours: neighbours + 1),
    "classes": SampleMetric(classes),
    "memorisation": SampleMetric(memorisation, features=False),
    "cas": SampleMetric(cas, automatic=False),  # it trains
}
"""Metrics by their name in `metrics` of conf/eval.yaml."""


def check_feasible(
    metrics: Sequence[str],
    pending: PendingSamples,
    real: Images,
    unseen: Images,
    extractor: Extractor | None,
    neighbours: int,
) -> None:
    """Check that the metrics can be computed, before samples are drawn, which may take hours.

    Args:
        unseen: all held-out images.

    Raises:
        ConfigError: too few images for a metric.
        DataError: images or samples lack something that a metric needs.
    """
    for name in metrics:
        need = METRICS[name].least(neighbours)
        if min(pending.n, len(real)) < need:
            if pending.n < need:
                raise ConfigError(f"n: {name} needs at least {need} samples, got {pending.n}; use more")
            raise ConfigError(
                f"real: {name} needs at least {need} real images, got {len(real)}; set split=train, or train with a "
                "larger dataset.val_fraction"
            )
    if "memorisation" in metrics and not len(unseen):
        raise DataError("metrics: memorisation needs held-out images, but the dataset has none; leave it out")
    if extractor is not None and extractor.class_names and {"classes", "cas"} & set(metrics):
        _check_classes(pending, len(extractor.class_names))
        if pending.labels is not None:
            _check_names(extractor.class_names, real.class_names)
    if "cas" in metrics:
        _check_cas(pending, extractor)


def _check_names(known: Sequence[str], real: Sequence[str]) -> None:
    """Raises DataError unless the classifier's classes are those of the images, by name and in order."""
    if tuple(known) != tuple(real):
        one, other = (f"{len(names)} ({', '.join(names[:5])}, ...)" for names in (known, real))
        raise DataError(
            f"features: the classifier knows {one} classes, but the dataset has {other}; "
            "use a classifier trained on this dataset"
        )


def _check_classes(pending: PendingSamples, known: int) -> None:
    labels = pending.labels
    if labels is not None and not 0 <= int(labels.min()) <= int(labels.max()) < known:
        bad = int(labels.min()) if int(labels.min()) < 0 else int(labels.max())
        raise DataError(
            f"samples: have class {bad}, but the classifier knows 0 to {known - 1}; "
            "use a classifier trained on these classes"
        )


def _check_cas(pending: PendingSamples, extractor: Extractor | None) -> None:
    if extractor is None or extractor.classifier is None:
        raise ConfigError(
            "metrics: cas retrains the classifier of features, so inception cannot be used; set features=RUN"
        )
    if pending.labels is None:
        raise DataError("metrics: cas needs samples with classes, these have none; use a class-conditional model")
