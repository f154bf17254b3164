"""Whether metrics can be computed at all: asked before samples are drawn, which may take hours."""

from collections.abc import Sequence

from ..data.images import Images
from ..errors import ConfigError, DataError
from .features import Extractor
from .samples import Drawing


def check_feasible(
    metrics: Sequence[str],
    drawing: Drawing,
    real: Images,
    unseen: Images,
    extractor: Extractor | None,
    neighbours: int,
) -> None:
    """Args:
        unseen: all held-out images.

    Raises:
        ConfigError: too few images for a metric.
        DataError: images or samples without what a metric needs.
    """
    least = {"fd": 2, "kd": 4, "pr": neighbours + 1}
    for metric in metrics:
        if min(drawing.n, len(real)) < (need := least.get(metric, 1)):
            key, count, what = ("n", drawing.n, "samples") if drawing.n < need else ("real", len(real), "real images")
            raise ConfigError(f"{key}: {metric} needs at least {need} {what}, got {count}; ask for more")
    if "memorisation" in metrics and not len(unseen):
        raise DataError("metrics: memorisation needs held-out images and the data set has none; leave it out")
    if extractor is not None and extractor.class_names and {"classes", "cas"} & set(metrics):
        _check_classes(drawing, len(extractor.class_names))
        if drawing.labels is not None:
            check_names(extractor.class_names, real.class_names)
    if "cas" in metrics:
        _check_teaching(drawing, real, extractor)


def check_names(known: Sequence[str], real: Sequence[str]) -> None:
    """Raises DataError unless the classifier's classes are those of the images, by name and in order."""
    if tuple(known) != tuple(real):
        one, other = (f"{len(names)} ({', '.join(names[:5])}, ...)" for names in (known, real))
        raise DataError(f"features: the classifier knows {one} classes, the data set has {other}; train one on it")


def _check_classes(drawing: Drawing, known: int) -> None:
    labels = drawing.labels
    if labels is not None and not 0 <= int(labels.min()) <= int(labels.max()) < known:
        bad = int(labels.min()) if int(labels.min()) < 0 else int(labels.max())
        raise DataError(f"samples: have class {bad}, the classifier knows 0 to {known - 1}; train one on these classes")


def _check_teaching(drawing: Drawing, real: Images, extractor: Extractor | None) -> None:
    if extractor is None or extractor.data is None:
        raise ConfigError("metrics: cas trains the classifier of features=RUN anew; it cannot train inception")
    if drawing.labels is None:
        raise DataError("metrics: cas learns classes and the samples have none; use a class-conditional model")
