"""Pictures as characters."""

import numpy as np
import pytest
import torch

from ddpm_cli.render.preview import RAMP, half_blocks, shades, thumbnails


def test_half_blocks_hold_two_pixels_each() -> None:
    picture = np.arange(4 * 3 * 3, dtype=np.uint8).reshape(4, 3, 3)
    cells = half_blocks(picture)
    assert len(cells) == 2 and all(len(row) == 3 for row in cells)
    assert cells[1][2] == (tuple(picture[2, 2].tolist()), tuple(picture[3, 2].tolist()))
    assert all(type(v) is int for row in cells for cell in row for colour in cell for v in colour)


def test_odd_heights_and_grey() -> None:
    cells = half_blocks(np.full((3, 2, 1), 7, np.uint8))
    assert cells == [[((7, 7, 7), (7, 7, 7))] * 2, [((7, 7, 7), (0, 0, 0))] * 2]


def test_wide_pictures_are_averaged_one_by_one() -> None:
    """The gaps between them stay one pixel wide and black."""
    pixels = torch.zeros(3, 3, 64, 64, dtype=torch.uint8)
    pixels[..., ::2] = 200
    picture = thumbnails(pixels, 3, width=52, height=36)
    assert picture.shape == (18, 52, 3)
    assert (picture[:, [0, 17, 34, 51]] == 0).all() and (picture[1:17, [1, 16, 18, 50]] == 100).all()


def test_brighter_pixels_get_denser_characters() -> None:
    ramp = np.linspace(0, 255, 10).round().astype(np.uint8).reshape(1, 10, 1)
    assert shades(ramp) == ["".join(c * 2 for c in RAMP)]
    assert shades(np.zeros((2, 3), np.uint8)) == ["", ""]
    assert shades(np.full((1, 2, 3), 255, np.uint8)) == ["@@@@"]


@pytest.mark.parametrize(("size", "width", "across"), [(8, 96, 10), (8, 76, 8), (28, 76, 4), (8, 10, 1)])
def test_there_are_as_many_thumbnails_as_are_legible(size: int, width: int, across: int) -> None:
    picture = thumbnails(torch.zeros(40, 1, size, size, dtype=torch.uint8), 10, width, height=36)
    assert picture.shape[1] == across * (min(size, (width - 1) // across - 1) + 1) + 1 <= width
    assert picture.shape[0] <= 37 or across == 1
