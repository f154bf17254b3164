"""Entropies, the confusion matrix, the bootstrap and the evaluation protocol."""

import math

import pytest
import torch

from ddpm_cli.evaluation.protocol import COMPARED_ANYWAY, MEASURED_BY, Protocol, comparable
from ddpm_cli.metrics import classes
from ddpm_cli.metrics.resample import Estimate, bootstrap, mean


def test_entropies_in_extreme_cases() -> None:
    sure = torch.eye(8).repeat(3, 1)
    assert classes.marginal_entropy(sure) == pytest.approx(3) and classes.mean_entropy(sure) == 0
    assert classes.score(sure) == pytest.approx(8) and classes.confidence(sure) == 1
    collapsed = torch.eye(8)[[2] * 5]
    assert classes.marginal_entropy(collapsed) == 0 and classes.score(collapsed) == pytest.approx(1)
    unsure = torch.full((5, 8), 1 / 8)
    assert classes.mean_entropy(unsure) == pytest.approx(3) and classes.score(unsure) == pytest.approx(1)
    assert classes.confidence(unsure) == pytest.approx(1 / 8)


def test_the_score_is_exp_of_the_mean_divergence() -> None:
    p = torch.rand(50, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    p = p / p.sum(1, keepdim=True)
    divergence = sum(float((row * (row / p.mean(0)).log()).sum()) for row in p) / 50
    assert classes.score(p) == pytest.approx(math.exp(divergence), rel=1e-12)


def test_confusion_counts_and_classes_without_images() -> None:
    labels, answers = torch.tensor([0, 0, 0, 1, 3]), torch.tensor([0, 2, 2, 1, 1])
    matrix = classes.confusion(labels, answers, 4)
    assert matrix.tolist() == [[1, 0, 2, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0]]
    assert classes.per_class(matrix) == [1 / 3, 1.0, None, 0.0]


def test_the_bootstrap_of_a_mean_gives_its_standard_error() -> None:
    values = torch.randn(400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    estimate = bootstrap(mean, values, resamples=1000, seed=0)
    error = float(values.std()) / 20
    assert estimate.value == mean(values)
    assert estimate.spread == pytest.approx(error, rel=0.1)
    assert estimate.low is not None and estimate.high is not None
    assert estimate.value - estimate.low == pytest.approx(error, rel=0.2)
    assert estimate.high - estimate.value == pytest.approx(error, rel=0.2)


def test_sets_are_resampled_independently_and_by_the_seed() -> None:
    a, b = torch.arange(50.0), torch.arange(30.0)
    sizes: list[tuple[int, int]] = []

    def gap(x: torch.Tensor, y: torch.Tensor) -> float:
        sizes.append((len(x), len(y)))
        return mean(x) - mean(y)

    one = bootstrap(gap, a, b, resamples=20, seed=1)
    assert sizes == [(50, 30)] * 21 and one.value == pytest.approx(10)
    assert bootstrap(gap, a, b, resamples=20, seed=1) == one != bootstrap(gap, a, b, resamples=20, seed=2)
    assert bootstrap(gap, a, b, resamples=0, seed=1) == Estimate(one.value)
    with pytest.raises(ValueError, match="n: must be at least 1, got no images"):
        bootstrap(mean, torch.empty(0), resamples=2, seed=0)


PROTOCOL = Protocol("digits", "val", 500, 180, "ab" * 32, "none", "classifier " + "cd" * 32, {"neighbours": 3})


def test_every_field_is_a_condition_or_may_differ() -> None:
    assert {*MEASURED_BY, *COMPARED_ANYWAY} == set(PROTOCOL.record())
    assert not {*MEASURED_BY} & {*COMPARED_ANYWAY}


@pytest.mark.parametrize(
    ("field", "other"),
    [
        ("data", "mnist"),
        ("split", "train"),
        ("n", 499),
        ("n_real", 100),
        ("real_sha256", "ff" * 32),
        ("resize", "299x299"),
        ("extractor", "inception " + "cd" * 32),
        ("settings", {"neighbours": 5}),
    ],
)
def test_different_conditions_are_refused_by_name(field: str, other: object) -> None:
    record = PROTOCOL.record()
    with pytest.raises(ValueError, match=f"^{field}: is .* in one but .* in two; "):
        comparable(record, record | {field: other}, ("one", "two"))


def test_the_compared_fields_may_differ() -> None:
    record = PROTOCOL.record()
    assert record | dict.fromkeys(COMPARED_ANYWAY, "other") != record
    comparable(record, record | dict.fromkeys(COMPARED_ANYWAY, "other"), ("one", "two"))
