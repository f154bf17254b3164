"""The digits, the offline default: pixels, labels, the fixed split, other sizes and channels, field checks."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from ddpm_cli.data.convert import fit, split_indices
from ddpm_cli.data.digits import Digits


def test_the_pixels_are_scikit_learns() -> None:
    train, val = Digits().load("train"), Digits().load("val")
    assert train.shape == (1, 8, 8) and train.classes == 10 and not train.flip
    assert len(train) + len(val) == 1797 and len(val) == 180
    expected = np.round(load_digits().images * 255 / 16).astype(np.uint8)
    ours = torch.cat([train.pixels, val.pixels]).numpy().reshape(1797, -1)
    assert sorted(map(bytes, ours)) == sorted(map(bytes, expected.reshape(1797, -1)))
    assert train.pixels.min() == 0 and train.pixels.max() == 255


def test_labels_match_their_pictures() -> None:
    data, target = load_digits(return_X_y=True)
    known = np.round(data * 255 / 16).astype(np.uint8)
    lookup = {pixels.tobytes(): label for pixels, label in zip(known, target, strict=True)}
    val = Digits().load("val")
    for pixels, label in zip(val.pixels.numpy(), val.labels.tolist(), strict=True):
        assert lookup[pixels.tobytes()] == label


@pytest.mark.parametrize(("size", "channels", "shape"), [(16, 1, (1, 16, 16)), ((4, 6), 3, (3, 4, 6))])
def test_other_sizes_and_channels(size: Any, channels: int, shape: tuple[int, int, int]) -> None:
    images = Digits(size=size, channels=channels).load("val")
    assert images.shape == shape and images.pixels.is_contiguous()
    if channels == 3:
        assert torch.equal(images.pixels[:, 0], images.pixels[:, 2])


def test_classes_zero_ignores_the_labels() -> None:
    images = Digits(classes=0).load("val")
    assert images.classes == 0 and not images.labels.any()


def test_a_fraction_of_zero_holds_nothing_out() -> None:
    assert len(Digits(val_fraction=0.0).load("train")) == 1797
    assert len(Digits(val_fraction=0.0).load("val")) == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("channels", 2),
        ("size", 0),
        ("size", (8, -1)),
        ("size", (8, 8, 8)),
        ("size", True),
        ("val_fraction", 1.0),
        ("val_fraction", -0.1),
        ("val_fraction", None),
        ("classes", 5),
        ("classes", -1),
    ],
)
def test_errors_name_the_field_first(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{field}: must be .*{'' if value is None else 'got'}"):
        Digits(**{field: value})


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.1, 0.5, 0.99])
@pytest.mark.parametrize("n", [0, 1, 2, 3, 100])
def test_a_split_is_disjoint_and_complete(n: int, fraction: float) -> None:
    train, val = (split_indices(n, fraction, held_out).tolist() for held_out in (False, True))
    assert sorted(train + val) == list(range(n))
    assert (len(val) >= 1) == (n >= 2 and fraction > 0)
    assert len(train) >= min(n, 1)


def test_grey_is_the_same_as_pillows_and_grey_pictures_do_not_change() -> None:
    from PIL import Image

    rgb = torch.randint(0, 256, (1, 3, 5, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pillow = np.asarray(Image.fromarray(rgb[0].permute(1, 2, 0).numpy()).convert("L"))
    assert np.array_equal(fit(rgb, (5, 5), 1)[0, 0].numpy(), pillow)
    grey = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(fit(fit(grey, (16, 16), 3), (16, 16), 1), grey)
