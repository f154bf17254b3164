"""How good a classifier is on real images."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ..data.images import Images
from ..diffusion.classifier import NoisyClassifier
from ..errors import DataError
from ..metrics.classes import confusion, per_class
from ..metrics.resample import bootstrap, mean
from ..progress import Progress
from ..render.plots.confusion import confusion_plot
from ..render.plots.mistakes import Mistake, mistakes_plot
from ..runs.load import LoadedClassifier
from .finding import Finding, Row

SHOWN = 24


def accuracy(
    found: LoadedClassifier, images: Images, batch_size: int, resamples: int, seed: int, progress: Progress
) -> Finding:
    """Share of images answered with their class, each class by itself, and which it takes for which.

    A classifier of noisy images is told that there is no noise.

    Raises:
        DataError: the images have other classes.
    """
    names = found.class_names
    if images.class_names != names:
        one, other = (f"{len(some)} ({', '.join(some[:5])}, ...)" for some in (images.class_names, names))
        raise DataError(f"split: has {one} classes, the classifier {other}; use the same data set")
    p = _probabilities(found, images, batch_size, progress)
    answers, labels = p.argmax(1), images.labels
    matrix = confusion(labels, answers, len(names))
    loss = -p.gather(1, labels[:, None])[:, 0].clamp_min(1e-30).log()
    spread = {"resamples": resamples, "seed": seed}
    rows = {
        "accuracy": Row(bootstrap(mean, answers == labels, **spread), None, "{:.2%}", eyes="none"),
        "cross-entropy": Row(bootstrap(mean, loss, **spread), None, "{:.4f}", eyes="none"),
    }
    each = dict(zip(names, per_class(matrix), strict=True))
    detail = {"accuracy": {"classes": list(names), "per_class": each, "confusion": matrix.tolist()}}
    pictures: dict[str, Callable[[Path], None]] = {"confusion.png": lambda path: confusion_plot(path, matrix, names)}
    if worst := _worst(p, images, names):
        pixels, wrong = worst
        total = int((answers != labels).sum())
        pictures["mistakes.png"] = lambda path: mistakes_plot(path, pixels, wrong, total, len(images))
    return Finding(rows, detail, pictures)


def class_rows(finding: Finding) -> list[list[str]]:
    """class, images, accuracy, what it is most often taken for."""
    detail = finding.detail["accuracy"]
    rows = []
    for i, (name, counts) in enumerate(zip(detail["classes"], detail["confusion"], strict=True)):
        share = detail["per_class"][name]
        others = [(n, detail["classes"][j]) for j, n in enumerate(counts) if j != i and n]
        worst = max(others, key=lambda other: other[0], default=None)
        taken = f"{worst[1]} ({worst[0]})" if worst else ""
        rows.append([name, str(sum(counts)), "" if share is None else f"{share:.1%}", taken])
    return rows


def _probabilities(found: LoadedClassifier, images: Images, batch_size: int, progress: Progress) -> Tensor:
    """(N,K) float64."""
    module = found.module
    assert isinstance(module, torch.nn.Module)
    device = next(module.parameters()).device
    model = NoisyClassifier(module, found.schedule)
    parts: list[Tensor] = []
    with torch.no_grad():
        for batch in images.chunks(batch_size, device):
            zero = torch.zeros(len(batch.x), device=device)
            logits = model(batch.x, torch.zeros_like(batch.x), zero) if found.noisy else model.clean(batch.x)
            parts.append(logits.cpu().double().softmax(1))
            progress("classifying", sum(map(len, parts)), len(images))
    return torch.cat(parts)


def _worst(p: Tensor, images: Images, names: tuple[str, ...]) -> tuple[Tensor, list[Mistake]] | None:
    """Those whose right class was the least likely, the worst first; None when all are right."""
    sure, answers = p.max(1)
    right = p.gather(1, images.labels[:, None])[:, 0]
    wrong = (answers != images.labels).nonzero()[:, 0]
    if not len(wrong):
        return None
    order = wrong[right[wrong].argsort()][:SHOWN]
    said = [
        Mistake(names[int(images.labels[i])], float(right[i]), names[int(answers[i])], float(sure[i]))
        for i in order.tolist()
    ]
    return images.pixels[order], said
