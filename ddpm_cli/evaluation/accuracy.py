"""The accuracy of a classifier on real images."""

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from ..data.images import Images
from ..errors import DataError
from ..metrics.classes import confusion, per_class
from ..metrics.resample import bootstrap, mean
from ..progress import Progress
from ..render.plots.confusion import confusion_plot
from ..render.plots.mistakes import Mistake, mistakes_plot
from ..sampling.classifier import LoadedClassifier
from ..text import named
from .options import EvalOptions
from .result import MetricResult, MetricValue

SHOWN = 24


def accuracy(run: LoadedClassifier, images: Images, options: EvalOptions, progress: Progress) -> MetricResult:
    """Accuracy, overall and per class, cross-entropy, and the confusion matrix.

    A classifier of noisy images gets the noise level 0.

    Raises:
        DataError: the images have other classes than the classifier.
    """
    names = run.class_names
    if images.class_names != names:
        one, other = (f"{len(classes)} ({named(classes, 5)})" for classes in (images.class_names, names))
        raise DataError(
            f"split: the images have {one} classes, but the classifier knows {other}; use the dataset it was trained on"
        )
    p = run.probabilities(images, options.batch_size, progress)
    answers, labels = p.argmax(1), images.labels
    matrix = confusion(labels, answers, len(names))
    loss = -p.gather(1, labels[:, None])[:, 0].clamp_min(1e-30).log()
    spread = {"resamples": options.resamples, "seed": options.seed}
    values = {
        "accuracy": MetricValue(bootstrap(mean, answers == labels, **spread), None, "{:.2%}", extractor="none"),
        "cross-entropy": MetricValue(bootstrap(mean, loss, **spread), None, "{:.4f}", extractor="none"),
    }
    each = dict(zip(names, per_class(matrix), strict=True))
    detail = {"accuracy": {"classes": list(names), "per_class": each, "confusion": matrix.tolist()}}
    pictures: dict[str, Callable[[Path], None]] = {"confusion.png": lambda path: confusion_plot(path, matrix, names)}
    if worst := _worst(p, images, names):
        pixels, wrong = worst
        total = int((answers != labels).sum())
        pictures["mistakes.png"] = lambda path: mistakes_plot(path, pixels, wrong, total, len(images))
    return MetricResult(values, detail, pictures)


def class_rows(result: MetricResult) -> list[list[str]]:
    """class, number of images, accuracy, the class it is most often mistaken for."""
    detail = result.detail["accuracy"]
    rows = []
    for i, (name, counts) in enumerate(zip(detail["classes"], detail["confusion"], strict=True)):
        fraction = detail["per_class"][name]
        mistakes = [(n, detail["classes"][j]) for j, n in enumerate(counts) if j != i and n]
        worst = max(mistakes, key=lambda mistake: mistake[0], default=None)
        mistaken_for = f"{worst[1]} ({worst[0]})" if worst else ""
        rows.append([name, str(sum(counts)), "" if fraction is None else f"{fraction:.1%}", mistaken_for])
    return rows


def _worst(p: Tensor, images: Images, names: tuple[str, ...]) -> tuple[Tensor, list[Mistake]] | None:
    """The mistakes with the lowest probability of the correct class, the worst first; None without mistakes."""
    confidence, answers = p.max(1)
    correct = p.gather(1, images.labels[:, None])[:, 0]
    wrong = (answers != images.labels).nonzero()[:, 0]
    if not len(wrong):
        return None
    order = wrong[correct[wrong].argsort()][:SHOWN]
    mistakes = [
        Mistake(names[int(images.labels[i])], float(correct[i]), names[int(answers[i])], float(confidence[i]))
        for i in order.tolist()
    ]
    return images.pixels[order], mistakes
