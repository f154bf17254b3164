"""The frames of a denoising: which times are shown, and that only the tiles and the number change."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from ddpm_cli.diffusion.samplers import Frame
from ddpm_cli.diffusion.schedule import CosineSchedule, LinearSchedule
from ddpm_cli.render.denoise import denoise_frames, evenly_visible, spaced
from ddpm_cli.render.pixels import MARGIN

TOP = MARGIN + 24


def frame(t: float, value: float = 0.0, n: int = 4, channels: int = 1) -> Frame:
    x = torch.full((n, channels, 8, 8), value)
    return Frame(t, x, -x)


@pytest.mark.parametrize("schedule", [LinearSchedule(), CosineSchedule()])
def test_frames_are_evenly_spaced_in_the_angle(schedule: LinearSchedule | CosineSchedule) -> None:
    times = schedule.times(None)
    chosen = evenly_visible(times, schedule, 20)
    assert chosen == sorted(set(chosen)) and chosen[0] == 0 and chosen[-1] == 1000 and len(chosen) == 20
    alpha, sigma = schedule(times[chosen])
    steps = -torch.atan2(sigma, alpha).diff()
    assert steps.min() > 0.7 * math.pi / 2 / 19 and steps.max() < 1.3 * math.pi / 2 / 19


@pytest.mark.parametrize("count", [1, 2, 3, 10, 11, 50])
def test_ends_are_kept_and_count_is_a_limit(count: int) -> None:
    schedule = LinearSchedule()
    chosen = evenly_visible(schedule.times(10), schedule, count)
    assert 1 <= len(chosen) <= count and chosen[-1] == 10
    assert count == 1 or chosen[0] == 0
    assert count < 11 or chosen == list(range(11))


def test_even_frames_are_even_in_t() -> None:
    schedule = LinearSchedule()
    times = schedule.times(None)
    assert spaced(times, schedule, 101, "even") == list(range(0, 1001, 10))
    hundred = spaced(times, schedule, 100, "even")
    assert len(hundred) == 100 and {b - a for a, b in pairwise(hundred)} == {10, 11}
    assert spaced(times, schedule, 100, "motion") == evenly_visible(times, schedule, 100) != hundred
    assert spaced(times, schedule, 1, "even") == [1000] and spaced(times[-3:], schedule, 9, "even") == [0, 1, 2]


@pytest.mark.parametrize("channels", [1, 3])
def test_x_t_is_on_the_left_and_the_estimate_on_the_right(channels: int) -> None:
    (picture,) = denoise_frames([frame(0.5, 0.5, channels=channels)], 1000)
    assert picture.dtype == np.uint8 and picture.shape[2] == channels
    values, counts = np.unique(picture[TOP:-MARGIN], return_counts=True)
    assert {64, 191} <= set(values[counts > 4 * 8 * 8 * 100 / 2].tolist())
    middle = picture.shape[1] // 2
    assert (picture[TOP:, :middle] == 191).any() and not (picture[TOP:, :middle] == 64).any()
    assert (picture[TOP:, middle:] == 64).any() and not (picture[TOP:, middle:] == 191).any()


def test_the_same_value_looks_the_same_in_every_frame() -> None:
    """Whatever the values of the other images in the frame."""
    x = torch.zeros(4, 1, 8, 8)
    extreme = x.clone()
    extreme[1:] = 40
    one, other = denoise_frames([Frame(1.0, x, x), Frame(0.5, extreme, extreme)], 1000)
    tile = (slice(TOP + 1, TOP + 81), slice(MARGIN + 1, MARGIN + 81))
    assert (one[tile] == 128).all() and (other[tile] == 128).all()


def test_only_the_number_changes() -> None:
    pictures = denoise_frames((frame(t) for t in (1.0, 0.637, 0.111, 0.05, 0.008, 0.0)), 1000)
    assert len({p.shape for p in pictures}) == 1
    changed = np.stack(pictures).min(0) != np.stack(pictures).max(0)
    rows, columns = np.nonzero(changed[:, :, 0])
    assert rows.min() >= MARGIN and rows.max() < TOP
    assert columns.max() - columns.min() < 40  # four digits
    height, width = changed.shape[:2]
    for p in pictures:  # the margins are empty: nothing is cut off
        assert (p[: MARGIN - 8] == 255).all() and (p[height - MARGIN :] == 255).all()
        assert (p[:, :MARGIN] == 255).all() and (p[:, width - MARGIN :] == 255).all()


def test_different_numbers_look_different() -> None:
    pictures = denoise_frames([frame(t) for t in (0.1, 0.2, 0.21)], 1000)
    assert not np.array_equal(pictures[0], pictures[1]) and not np.array_equal(pictures[1], pictures[2])


@pytest.mark.parametrize("channels", [1, 3])
def test_a_constant_estimate_gives_identical_pixels(channels: int) -> None:
    """Whatever x_t is."""
    g = torch.Generator().manual_seed(0)
    still = torch.rand(4, channels, 8, 8, generator=g) * 2 - 1
    frames = [Frame(t, torch.randn(4, channels, 8, 8, generator=g) * 3, still) for t in (1.0, 0.5, 0.001)]
    pictures = denoise_frames(frames, 1000)
    half = pictures[0].shape[1] // 2
    assert all(np.array_equal(p[:, half:], pictures[0][:, half:]) for p in pictures)
    assert not np.array_equal(pictures[0][TOP:, :half], pictures[1][TOP:, :half])


@pytest.mark.parametrize(("n", "total"), [(1, 10), (1, 100000), (3, 1000)])
def test_captions_fit_above_one_or_three_tiles(n: int, total: int) -> None:
    (picture,) = denoise_frames([frame(1.0, n=n)], total, scale=1)
    assert (picture[:, :MARGIN] == 255).all() and (picture[:, -MARGIN:] == 255).all()


def test_scale_and_columns() -> None:
    small, large = (denoise_frames([frame(1.0, n=6)], 1000, columns=6, scale=s)[0] for s in (5, 7))
    assert large.shape[1] - small.shape[1] == 2 * 6 * 8 * 2 and large.shape[0] - small.shape[0] == 8 * 2
    with pytest.raises(ValueError, match="scale"):
        denoise_frames([frame(1.0)], 1000, scale=0)
