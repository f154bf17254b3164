"""Metrics from the predictions of a classifier. Probabilities are (N,K), with rows that sum to 1."""

import math

import torch
from torch import Tensor


def marginal_entropy(probabilities: Tensor) -> float:
    """H(mean of p), in bits: log2 K if all K classes are equally frequent, 0 if there is only one."""
    return float(_bits(probabilities.double().mean(0)))


def mean_entropy(probabilities: Tensor) -> float:
    """E H(p), in bits: 0 if the classifier is certain of every image."""
    return float(_bits(probabilities.double()).mean())


def score(probabilities: Tensor) -> float:
    """exp E KL(p | mean of p): the Inception score (Salimans et al. 2016, section 4) of this classifier, 1 to K."""
    return math.exp(math.log(2) * (marginal_entropy(probabilities) - mean_entropy(probabilities)))


def confidence(probabilities: Tensor) -> float:
    """The mean of the largest probability."""
    return float(probabilities.double().max(1).values.mean())


def confusion(labels: Tensor, answers: Tensor, classes: int) -> Tensor:
    """(K,K) int64: entry [i, j] is the number of images of class i that were classified as class j (`answers`)."""
    return torch.bincount(labels * classes + answers, minlength=classes * classes).view(classes, classes)


def per_class(matrix: Tensor) -> list[float | None]:
    """The accuracy on each class: the fraction of each row on the diagonal; None for a class without images."""
    totals, correct = matrix.sum(1).tolist(), matrix.diagonal().tolist()
    return [c / n if n else None for c, n in zip(correct, totals, strict=True)]


def _bits(p: Tensor) -> Tensor:
    return -torch.xlogy(p, p).sum(-1) / math.log(2)
