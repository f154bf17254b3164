"""Precision, recall and copies, compared with double loops."""

import pytest
import torch
from torch import Tensor

from ddpm_cli.metrics import neighbours
from ddpm_cli.metrics.neighbours import nearest, precision_recall


def randn(n: int, *shape: int, seed: int = 0) -> Tensor:
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def covered(queries: Tensor, points: Tensor, k: int) -> list[bool]:
    """Whether each query is at most as far from randn point as the k-th nearest other point is."""
    radii = [sorted(float((p - q).norm()) for j, q in enumerate(points) if j != i)[k - 1] for i, p in enumerate(points)]
    return [any(float((q - p).norm()) <= r for p, r in zip(points, radii, strict=True)) for q in queries]


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("cells", [7, 2**24])
def test_precision_and_recall_equal_a_double_loop(k: int, cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "CELLS", cells)  # 7: a chunk is a single row
    real, fake = torch.cat([randn(20, 2), randn(10, 2, seed=2) + 30]), randn(20, 2, seed=1) + 1.5
    result = precision_recall(real, fake, k)
    assert result.precise.tolist() == covered(fake, real, k)
    assert result.recalled.tolist() == covered(real, fake, k)
    assert 0 < result.precise.double().mean() < 1 and 0 < result.recalled.double().mean() < 1


def test_identical_and_distant_sets() -> None:
    real = randn(50, 8)
    same, far = precision_recall(real, real.clone()), precision_recall(real, real + 100)
    assert same.precise.all() and same.recalled.all()
    assert not far.precise.any() and not far.recalled.any()


def test_samples_of_one_mode_have_high_precision_and_low_recall() -> None:
    modes = torch.cat([randn(40, 2), randn(40, 2, seed=1) + 50])
    one = precision_recall(modes, randn(40, 2, seed=2))
    assert one.precise.double().mean() > 0.8 and one.recalled.double().mean() < 0.5
    assert not one.recalled[40:].any()


def test_wrong_numbers() -> None:
    with pytest.raises(ValueError, match="neighbours: must be at least 1"):
        precision_recall(randn(5, 2), randn(5, 2), 0)
    with pytest.raises(ValueError, match="n: needs at least 4 images, got 5 real ones and 3 samples"):
        precision_recall(randn(5, 2), randn(3, 2))
    with pytest.raises(ValueError, match="images: cannot compare"):
        nearest(torch.zeros(2, 1, 4, 4), torch.zeros(0, 1, 4, 4))


@pytest.mark.parametrize("cells", [3, 2**24])
def test_nearest_equals_a_double_loop(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "CELLS", cells)
    g = torch.Generator().manual_seed(0)
    a, b = (torch.randint(0, 256, (n, 1, 3, 3), generator=g, dtype=torch.uint8) for n in (6, 17))
    table = (a.double()[:, None] - b.double()[None]).square().flatten(2).mean(2).sqrt()
    result = nearest(a, b)
    assert torch.allclose(result.distance.double(), table.min(1).values, atol=1e-4)
    assert result.which.tolist() == table.argmin(1).tolist()


def test_copies_are_found_among_similar_images_and_mirrored_if_requested() -> None:
    g = torch.Generator().manual_seed(0)
    base = torch.randint(100, 156, (1, 1, 16, 16), generator=g, dtype=torch.uint8)
    train = base.repeat(200, 1, 1, 1)
    train[torch.arange(200), 0, torch.arange(200) // 16, torch.arange(200) % 16] += 1  # each differs by one grey level
    result = nearest(train[[3, 150]], train)
    assert result.distance.tolist() == [0, 0] and result.which.tolist() == [3, 150]
    flipped = train[[77]].flip(-1)
    assert nearest(flipped, train).distance > 1
    mirrored = nearest(flipped, train, mirrored=True)
    assert mirrored.distance == 0 and mirrored.which == 77
