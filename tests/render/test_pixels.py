"""The fixed grey scale, the layout of tiles, sharp enlargement."""

import numpy as np
import pytest
import torch

from ddpm_cli.data.images import to_float
from ddpm_cli.render.caption import titled, width_of
from ddpm_cli.render.pixels import balanced, default_scale, enlarge, grid, to_uint8


def test_the_scale_is_fixed_and_clips() -> None:
    x = torch.tensor([-7.0, -1.0, -0.5, 0.0, 0.5, 1.0, 7.0, float("nan"), float("inf"), -float("inf")])
    assert to_uint8(x).tolist() == [0, 0, 64, 128, 191, 255, 255, 0, 255, 0]
    assert to_uint8(x).dtype == torch.uint8


def test_bytes_survive_the_conversion_to_floats_and_back() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(to_uint8(to_float(pixels)), pixels)


def test_a_value_has_the_same_grey_beside_any_other() -> None:
    grey, extreme = torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 50.0)
    extreme[0, 0, 0, 0] = 0
    assert to_uint8(grey)[0, 0, 0, 0] == to_uint8(extreme)[0, 0, 0, 0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions(dtype: torch.dtype) -> None:
    assert to_uint8(torch.ones(1, 1, 1, 1, dtype=dtype).requires_grad_()).item() == 255


@pytest.mark.parametrize(
    ("n", "columns"),
    [(1, 1), (2, 2), (3, 3), (4, 2), (7, 4), (10, 5), (12, 4), (16, 4), (50, 10), (64, 8), (100, 10), (128, 16)],
)
def test_balanced(n: int, columns: int) -> None:
    assert balanced(n) == columns


@pytest.mark.parametrize("channels", [1, 3])
def test_grid_places_tiles_row_by_row_on_a_uniform_background(channels: int) -> None:
    images = torch.arange(5, dtype=torch.uint8).view(5, 1, 1, 1).expand(5, channels, 3, 4)
    picture = grid(images, columns=2, pad=2)
    assert picture.shape == (3 * 5 + 2, 2 * 6 + 2, channels) and picture.dtype == np.uint8
    for i in range(5):
        top, left = 2 + i // 2 * 5, 2 + i % 2 * 6
        assert (picture[top : top + 3, left : left + 4] == i).all()
        picture[top : top + 3, left : left + 4] = 255
    assert (picture == 255).all()
    assert (grid(images, columns=2, pad=2, background=0)[:2] == 0).all()


def test_there_are_no_more_columns_than_images() -> None:
    images = torch.zeros(2, 1, 3, 3, dtype=torch.uint8)
    assert grid(images, columns=8).shape == grid(images, columns=2).shape
    with pytest.raises(ValueError, match="columns"):
        grid(images, columns=0)


@pytest.mark.parametrize(("side", "scale"), [(8, 10), (28, 3), (32, 3), (64, 2), (128, 1), (1024, 1)])
def test_tiles_are_legible(side: int, scale: int) -> None:
    assert default_scale(side, side) == scale
    assert default_scale(side, side, wanted=5) == 5


def test_scale_zero() -> None:
    with pytest.raises(ValueError, match="scale"):
        default_scale(8, 8, wanted=0)


def test_enlarge_keeps_squares_sharp() -> None:
    picture = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    large = enlarge(picture, 3)
    assert large.shape == (6, 6, 3) and (large[::3, ::3] == picture).all() and (large[2::3, 1::3] == picture).all()


@pytest.mark.parametrize("width", [10, 500])
def test_a_title_is_above_the_picture_and_not_cut_off(width: int) -> None:
    picture = np.full((30, width, 1), 7, np.uint8)
    out = titled(picture, "Upper: real")
    above = len(out) - 30
    assert out.shape[1] >= max(width, width_of("Upper: real")) and np.array_equal(out[above:, :width], picture)
    inked = np.flatnonzero((out[:above] < 150).any((0, 2)))
    assert inked[0] > 0 and inked[-1] < out.shape[1] - 1 and len(inked) > 20
