"""What a classifier says of a set of images. Probabilities are (N,K), rows that add up to 1."""

import math

import torch
from torch import Tensor


def marginal_entropy(probabilities: Tensor) -> float:
    """H(mean of p), in bits: log2 K when all classes are as frequent, 0 when there is one."""
    return float(_bits(probabilities.double().mean(0)))


def mean_entropy(probabilities: Tensor) -> float:
    """E H(p), in bits: 0 when the classifier is sure of every image."""
    return float(_bits(probabilities.double()).mean())


def score(probabilities: Tensor) -> float:
    """exp E KL(p | mean of p): the Inception score (Salimans et al. 2016, section 4) of this classifier, 1 to K."""
    return math.exp(math.log(2) * (marginal_entropy(probabilities) - mean_entropy(probabilities)))


def confidence(probabilities: Tensor) -> float:
    """The mean of the largest probability."""
    return float(probabilities.double().max(1).values.mean())


def confusion(labels: Tensor, answers: Tensor, classes: int) -> Tensor:
    """(K,K) int64: how many images of class i were taken for class j."""
    return torch.bincount(labels * classes + answers, minlength=classes * classes).view(classes, classes)


def per_class(matrix: Tensor) -> list[float | None]:
    """Share of each row that is on the diagonal; None for a class without images."""
    totals, right = matrix.sum(1).tolist(), matrix.diagonal().tolist()
    return [r / n if n else None for r, n in zip(right, totals, strict=True)]


def _bits(p: Tensor) -> Tensor:
    return -torch.xlogy(p, p).sum(-1) / math.log(2)
