"""Names of classes above grids."""

import numpy as np
import pytest
import torch

from ddpm_cli.render.caption import LINE
from ddpm_cli.render.heading import headed, headings
from ddpm_cli.render.pixels import BACKGROUND
from ddpm_cli.sampling.samples import Samples


def ink(picture: np.ndarray, left: int, right: int) -> bool:
    return bool((picture[:LINE, left:right] < 128).any())


@pytest.mark.parametrize("name", ["cat", "007", "été", "фото", "ελιά", "two words", "under_score"])
def test_a_name_in_a_known_alphabet_is_itself(name: str) -> None:
    assert headings([name], [3]) == [name]


@pytest.mark.parametrize("name", ["猫", "a\nb", "\x1b[31mred", "\udcff"])
def test_a_name_that_cannot_be_drawn_is_its_number(name: str) -> None:
    assert headings(["cat", name], [0, 3]) == ["cat", "#3"]


def test_each_column_has_the_name_of_its_class() -> None:
    picture = np.full((20, 4 + 3 * 50, 1), BACKGROUND, np.uint8)
    out = headed(picture, ["cat", "", "dog"] * 2, 3, 4)
    assert out.shape == (20 + LINE, 154, 1) and (out[LINE:] == picture).all()
    assert ink(out, 4, 50) and not ink(out, 54, 104) and ink(out, 104, 154)


def test_equal_names_side_by_side_are_written_once_and_long_ones_are_shortened() -> None:
    picture = np.full((20, 4 + 2 * 50, 3), BACKGROUND, np.uint8)
    once = headed(picture, ["cat"] * 4, 2, 4)
    assert not ink(once, 0, 35) and ink(once, 35, 70) and not ink(once, 70, 104)
    long = headed(picture, ["a name much longer than its column", "b"], 2, 4)
    assert ink(long, 4, 50) and not ink(long, 50, 60)
    assert (headed(picture, ["wide", "b"], 2, 4)[:, :4] == BACKGROUND).all()


@pytest.mark.parametrize("classes", [None, [], ["cat", "dog", "dog", "cat"]])
def test_a_grid_of_mixed_columns_has_no_heading(classes: list[str] | None) -> None:
    picture = np.zeros((20, 104, 1), np.uint8)
    assert headed(picture, classes, 2, 4) is picture


def test_the_grid_of_samples_names_its_columns() -> None:
    images, labels = torch.zeros(6, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 0, 1, 0, 1])
    plain, named = (Samples(images, labels, None, facts).grid() for facts in ({}, {"classes": ["a", "b"] * 3}))
    assert named.shape[0] == plain.shape[0] + LINE and (named[LINE:] == plain).all()
