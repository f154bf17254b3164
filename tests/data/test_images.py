"""Batches are functions of (seed, step); pixel values, flips, chunks."""

from itertools import islice

import pytest
import torch

from ddpm_cli.data.images import Batch, Images, to_float
from ddpm_cli.errors import DataError


def numbered(n: int, flip: bool = False) -> Images:
    """Picture i holds i in its left column and 0 to the right of it; its label is i."""
    pixels = torch.zeros(n, 1, 2, 3, dtype=torch.uint8)
    pixels[:, :, :, 0] = torch.arange(n, dtype=torch.uint8)[:, None, None]
    return Images(pixels, torch.arange(n), ("a", "b"), flip)


def first(images: Images, size: int, count: int, seed: int = 0, start: int = 0) -> list[Batch]:
    return list(islice(images.batches(size, seed, start), count))


def test_values_map_to_exactly_minus_one_and_one() -> None:
    values = to_float(torch.arange(256, dtype=torch.uint8))
    assert values.dtype == torch.float32
    assert values[0] == -1 and values[255] == 1
    assert (values.diff() > 0).all()
    back = ((values + 1) * 127.5).round().to(torch.uint8)
    assert torch.equal(back, torch.arange(256, dtype=torch.uint8))


def test_the_shape_and_types_of_a_batch() -> None:
    (batch,) = first(numbered(10), 4, 1)
    assert batch.x.shape == (4, 1, 2, 3) and batch.x.dtype == torch.float32
    assert batch.y.shape == (4,) and batch.y.dtype == torch.int64


@pytest.mark.parametrize("size", [1, 3, 4, 10, 23])
@pytest.mark.parametrize("flip", [False, True])
def test_starting_at_k_equals_skipping_k_batches(size: int, flip: bool) -> None:
    images = numbered(10, flip)
    for k, skipped in enumerate(first(images, size, 8, seed=5)):
        (started,) = first(images, size, 1, seed=5, start=k)
        assert torch.equal(skipped.x, started.x) and torch.equal(skipped.y, started.y)


@pytest.mark.parametrize("size", [1, 3, 10, 7, 25])
def test_every_picture_is_seen_once_an_epoch(size: int) -> None:
    stream = torch.cat([batch.y for batch in first(numbered(10), size, 100 // size)])
    for epoch in stream[: len(stream) // 10 * 10].view(-1, 10):
        assert sorted(epoch.tolist()) == list(range(10))


def test_seeds_and_epochs_differ() -> None:
    images = numbered(50)
    one, two = first(images, 50, 2)
    (other,) = first(images, 50, 1, seed=1)
    assert not torch.equal(one.y, two.y)
    assert not torch.equal(one.y, other.y)


def test_pictures_keep_their_labels() -> None:
    for batch in first(numbered(20), 6, 5):
        left = ((batch.x[:, 0, 0, 0] + 1) * 127.5).round().long()
        assert torch.equal(left, batch.y)


def test_flips_mirror_about_half_and_repeat_with_the_seed() -> None:
    images = numbered(200, flip=True)
    (batch,) = first(images, 200, 1, seed=3)
    (again,) = first(images, 200, 1, seed=3)
    (other,) = first(images, 200, 1, seed=4)
    assert torch.equal(batch.x, again.x)
    flipped = (batch.x[:, 0, 0, 0] == -1) & (batch.y > 0)
    assert 60 < flipped.sum() < 140
    (plain,) = first(numbered(200), 200, 1, seed=3)
    assert torch.equal(batch.y, plain.y)
    assert torch.equal(torch.where(flipped[:, None, None, None], batch.x.flip(-1), batch.x), plain.x)
    assert not torch.equal(flipped, (other.x[:, 0, 0, 0] == -1) & (other.y > 0))


def test_flips_differ_between_batches() -> None:
    images = Images(numbered(2).pixels[1:], torch.tensor([0]), (), flip=True)
    lefts = [bool(batch.x[0, 0, 0, 0] > -1) for batch in first(images, 1, 40)]
    assert 5 < sum(lefts) < 35


def test_chunks_are_in_order_once_and_unflipped() -> None:
    chunks = list(numbered(10, flip=True).chunks(4, "cpu"))
    assert [len(chunk.y) for chunk in chunks] == [4, 4, 2]
    assert torch.cat([chunk.y for chunk in chunks]).tolist() == list(range(10))
    assert torch.equal(torch.cat([chunk.x for chunk in chunks]), to_float(numbered(10).pixels))


def test_the_pictures_do_not_change() -> None:
    images = numbered(5, flip=True)
    before = images.pixels.clone()
    first(images, 5, 3)
    assert torch.equal(images.pixels, before)


def test_take_and_subset() -> None:
    images = numbered(10, flip=True)
    assert images.take(3).labels.tolist() == [0, 1, 2]
    assert len(images.take(99)) == 10 and len(images.take(0)) == 0
    chosen = images.subset(torch.tensor([7, 2]))
    assert chosen.labels.tolist() == [7, 2] and chosen.pixels[:, 0, 0, 0].tolist() == [7, 2]
    assert chosen.flip and chosen.class_names == ("a", "b")


def test_shape_and_classes() -> None:
    images = numbered(4)
    assert images.shape == (1, 2, 3) and images.classes == 2 and len(images) == 4


def test_no_pictures_and_bad_numbers() -> None:
    with pytest.raises(DataError, match="no pictures"):
        numbered(0).batches(4, 0)
    assert list(numbered(0).chunks(4)) == []
    with pytest.raises(ValueError, match=r"^batch_size: "):
        numbered(3).batches(0, 0)
    with pytest.raises(ValueError, match=r"^start: "):
        numbered(3).batches(2, 0, start=-1)


def test_any_integer_is_a_seed() -> None:
    assert len(first(numbered(4), 2, 1, seed=-7)[0].y) == 2
    assert len(first(numbered(4), 2, 1, seed=2**70)[0].y) == 2
