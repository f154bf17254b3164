"""Each image turns into its own fixed noise; the strip shows five stages of it."""

import numpy as np
import pytest
import torch

from ddpm_cli.diffusion.schedule import LinearSchedule
from ddpm_cli.diffusion.zero_to_one import ZeroToOne
from ddpm_cli.render.forward import SHARES, forward_frames, forward_strip
from ddpm_cli.render.pixels import GAP, MARGIN

TOP = MARGIN + 24
SCHEDULE = LinearSchedule()


def images(n: int = 4, channels: int = 1) -> torch.Tensor:
    return torch.rand(n, channels, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1


def tile(picture: np.ndarray, row: int = 0, column: int = 0, scale: int = 10) -> np.ndarray:
    """The pixels of one tile, (8,8,C)."""
    step = 8 * scale + 2 + GAP
    top, left = TOP + 1 + row * step, MARGIN + 1 + column * step
    return picture[top : top + 8 * scale : scale, left : left + 8 * scale : scale]


@pytest.mark.parametrize("channels", [1, 3])
def test_from_clean_to_noise(channels: int) -> None:
    x = images(channels=channels)
    pictures = forward_frames(x, SCHEDULE, 12, seed=3, total_steps=1000)
    assert len(pictures) == 12 and len({p.shape for p in pictures}) == 1
    clean = ((x[0] + 1) * 127.5).round().permute(1, 2, 0).numpy()
    assert np.array_equal(tile(pictures[0]), clean)
    other = forward_frames(-x, SCHEDULE, 12, seed=3, total_steps=1000)[-1]
    assert np.abs(pictures[-1].astype(int) - other).max() <= 3  # at t = 1 nothing of the image is left


def test_pixels_change_monotonically() -> None:
    """With fixed noise, every pixel of a grey image moves towards its noise, so nothing flickers."""
    pictures = forward_frames(torch.zeros(1, 1, 8, 8), SCHEDULE, 20, seed=0, total_steps=1000)
    path = np.stack([tile(p).astype(int) for p in pictures])
    steps = np.diff(path, axis=0)
    assert ((steps >= 0).all(0) | (steps <= 0).all(0)).all()


def test_the_noise_of_an_image_does_not_depend_on_the_others() -> None:
    x = images(4)
    four, two = (forward_frames(batch, SCHEDULE, 3, seed=5, total_steps=1000)[-1] for batch in (x, x[:2]))
    assert np.array_equal(tile(four, 0, 1), tile(two, 0, 1))
    assert not np.array_equal(tile(four, 0, 0), tile(four, 0, 1))
    assert not np.array_equal(four, forward_frames(x, SCHEDULE, 3, seed=6, total_steps=1000)[-1])


def test_the_strip_shows_five_stages() -> None:
    assert SHARES == (0, 25, 50, 75, 100)
    x = images(3)
    strip = forward_strip(x, SCHEDULE, seed=5)
    frames = {0: 0, 25: 250, 50: 500, 75: 750, 100: 1000}
    every = forward_frames(x, SCHEDULE, 1001, seed=5, total_steps=1000, columns=1)
    for column, k in enumerate(frames.values()):
        for row in range(3):
            assert np.array_equal(tile(strip, row, column), tile(every[k], row, 0))


def test_the_strip_of_a_zero_to_one_schedule_shows_the_same_stages() -> None:
    """The noise of images in [0, 1] is twice as large, but the schedule is not variance-exploding."""
    x, schedule = images(1), ZeroToOne(LinearSchedule())
    strip = forward_strip(x, schedule, seed=5)
    every = forward_frames(x, schedule, 1001, seed=5, total_steps=1000, columns=1)
    for column in range(5):
        assert np.array_equal(tile(strip, 0, column), tile(every[250 * column], 0, 0))


def test_strip_headers_and_margins() -> None:
    strip = forward_strip(images(2), SCHEDULE, seed=0)
    header = strip[MARGIN - 4 : TOP, :, 0]
    for column in range(5):
        left = MARGIN + column * (82 + GAP)
        assert (header[:, left : left + 82] < 128).any()
    assert (strip[:, :MARGIN] == 255).all() and (strip[:, -MARGIN:] == 255).all() and (strip[-MARGIN:] == 255).all()


def test_the_strip_has_at_most_eight_rows() -> None:
    assert forward_strip(images(20), SCHEDULE, seed=0).shape == forward_strip(images(8), SCHEDULE, seed=0).shape
