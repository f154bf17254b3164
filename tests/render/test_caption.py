"""Text in pictures."""

import numpy as np
import pytest

from ddpm_cli.render.caption import LINE, canvas, titled, width_of, write


@pytest.mark.parametrize("name", ["a_b", "seed=1_optimizer.lr=2", "my_cat", "_x", "box_1", "x_ray"])
def test_an_underscore_in_a_name_stays(name: str) -> None:
    """It made the letter after it a subscript."""
    picture, taller = canvas(LINE, 400, 1), canvas(LINE, 400, 1)
    write(picture, name, 0, 0)
    whole = sum(width_of(character) for character in name)
    assert abs(width_of(name) - whole) <= len(name)  # a subscript is smaller
    write(taller, "x_t", 0, 0)
    assert not np.array_equal(picture, taller) and (picture < 128).any()


def test_a_variable_has_a_subscript() -> None:
    assert width_of("x_t") < width_of("x_") and width_of("x_0 estimate") < width_of("x_ 0 estimate")
    assert titled(canvas(10, 10, 3), "x_t").shape == (10 + LINE, max(10, width_of("x_t") + 12), 3)
