"""Animations: frames chosen by what the eye sees, one scale, a steady ground, a held last frame."""

from itertools import pairwise
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from ddpm_cli.diffusion.samplers import Frame
from ddpm_cli.diffusion.schedule import CosineSchedule, LinearSchedule
from ddpm_cli.render import animate
from ddpm_cli.render.animate import write_animation
from ddpm_cli.render.denoise import MARGIN, denoise_frames, evenly_visible
from ddpm_cli.render.forward import forward_frames, forward_strip
from ddpm_cli.render.pixels import to_uint8


def read(path: Path) -> list[np.ndarray]:
    return [np.asarray(f.convert("RGB")) for f in ImageSequence.Iterator(Image.open(path))]


@pytest.mark.parametrize("schedule", [LinearSchedule(), CosineSchedule()])
def test_frames_are_evenly_visible(schedule: LinearSchedule) -> None:
    times = schedule.times(1000)
    chosen = evenly_visible(times, schedule, 30)
    assert chosen[0] == 0 and chosen[-1] == 1000 and len(chosen) == 30 and chosen == sorted(set(chosen))
    alpha, sigma = schedule(times[chosen])
    turns = -torch.atan2(sigma, alpha).diff()
    assert float(turns.max() / turns.mean()) < 1.5
    naive = schedule.times(29)  # evenly spaced in t: most of the change in few frames
    alpha, sigma = schedule(naive)
    assert schedule == CosineSchedule() or float((-torch.atan2(sigma, alpha).diff()).max() / turns.mean()) > 1.5


def test_few_frames_are_all_kept() -> None:
    schedule = LinearSchedule()
    assert evenly_visible(schedule.times(4), schedule, 30) == [0, 1, 2, 3, 4]
    assert evenly_visible(schedule.times(4), schedule, 1) == [4]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_denoising_has_one_layout_and_one_scale(channels: int) -> None:
    g = torch.Generator().manual_seed(0)
    still = torch.rand(4, channels, 8, 8, generator=g) * 2 - 1
    frames = [Frame(t, torch.randn(4, channels, 8, 8, generator=g) * 3, still) for t in (1.0, 0.5, 0.001)]
    pictures = denoise_frames(frames, 1000)
    assert len({p.shape for p in pictures}) == 1 and pictures[0].shape[2] == channels
    half = pictures[0].shape[1] // 2
    for p in pictures[1:]:  # the right half shows the same x0: pixel for pixel the same, whatever is beside it
        assert np.array_equal(p[:, half + MARGIN :], pictures[0][:, half + MARGIN :])
    expected = to_uint8(still)[0, :, 0, 0].tolist()
    corner = np.argwhere((pictures[0][50:, half + MARGIN :] != 255).any(2))[0]
    assert (
        pictures[0][50:, half + MARGIN :][tuple(corner)].tolist() in (expected, to_uint8(still)[0, :, 2, 0].tolist())
        or channels == 1
    )
    assert not np.array_equal(pictures[0][:, :half], pictures[1][:, :half])
    assert all(
        (p[:MARGIN] == 255).all() and (p[-MARGIN:] == 255).all() and (p[:, -MARGIN:] == 255).all() for p in pictures
    )


def test_the_caption_says_the_step() -> None:
    def caption(t: float) -> np.ndarray:
        x = torch.zeros(1, 1, 8, 8)
        return denoise_frames([Frame(t, x, x)], 1000)[0][: MARGIN + 26]

    assert np.array_equal(caption(0.637), caption(0.637)) and not np.array_equal(caption(0.637), caption(0.638))
    narrow = torch.zeros(1, 1, 4, 4)  # tiles narrower than the words: the words still fit
    assert denoise_frames([Frame(1.0, narrow, narrow)], 1000, scale=1)[0].shape[1] > 200


def test_real_images_dissolve_and_do_not_flicker() -> None:
    schedule, images = CosineSchedule(), torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    frames = [f.astype(int) for f in forward_frames(images, schedule, 40, seed=0, total_steps=1000)]
    assert 30 < len(frames) <= 40
    steps = [np.abs(b - a)[40:].mean() for a, b in pairwise(frames)]
    assert max(steps) < 12  # one noise for all times; a fresh one each frame would give about 60
    assert np.abs(frames[-1] - frames[0])[40:].mean() > 20
    again = forward_frames(images, schedule, 40, seed=0, total_steps=1000)
    assert np.array_equal(again[5], frames[5])


def test_the_strip_has_five_columns() -> None:
    images = torch.ones(3, 1, 32, 32)
    strip = forward_strip(images, LinearSchedule(), seed=0, scale=2)
    body = strip[MARGIN + 26 + 2 : -MARGIN - 2, MARGIN:-MARGIN, 0]
    cell = body.shape[1] // 5
    dark = [(body[:, i * cell : (i + 1) * cell] < 128).mean() for i in range(5)]
    assert dark[0] == 0 and dark == sorted(dark) and dark[-1] > 0.3


def test_a_grey_gif_is_lossless(tmp_path: Path) -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    frames = [ramp, np.rot90(ramp).copy(), 255 - ramp]
    write_animation(tmp_path / "a.gif", frames, fps=10, hold=1.5)
    back = read(tmp_path / "a.gif")
    assert all(np.array_equal(b[:, :, :1], f) for b, f in zip(back, frames, strict=True))
    durations = [f.info["duration"] for f in ImageSequence.Iterator(Image.open(tmp_path / "a.gif"))]
    assert durations == [100, 100, 1600]
    assert Image.open(tmp_path / "a.gif").info["loop"] == 0


def test_a_colour_gif_is_close_and_its_ground_is_steady(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    smooth = np.stack([*np.meshgrid(np.linspace(0, 255, 48), np.linspace(0, 255, 48)), np.full((48, 48), 90.0)], 2)
    frames = []
    for share in np.linspace(0, 1, 20):
        frame = np.full((60, 60, 3), 255, np.uint8)
        frame[6:54, 6:54] = np.clip(smooth * (1 - share) + rng.uniform(0, 255, smooth.shape) * share, 0, 255)
        frames.append(frame)
    write_animation(tmp_path / "a.gif", frames, fps=20, hold=0)
    back = read(tmp_path / "a.gif")
    assert len(back) == 20
    for b, f in zip(back, frames, strict=True):
        assert (b[:6] == 255).all() and (b[:, :6] == 255).all()
        assert np.abs(b.astype(int) - f).mean() < 16
    assert np.abs(back[0].astype(int) - frames[0]).mean() < 8


def test_what_stands_still_keeps_its_colour(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    patch = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    frames = []
    for _ in range(6):
        frame = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        frame[:8, :8] = patch
        frames.append(frame)
    write_animation(tmp_path / "a.gif", frames, fps=10, hold=0)
    back = read(tmp_path / "a.gif")
    assert all(np.array_equal(b[:8, :8], back[0][:8, :8]) for b in back)


def test_mp4_can_be_read_back(tmp_path: Path) -> None:
    frames = [np.full((31, 45, 1), v, np.uint8) for v in (0, 128, 255)]  # odd sides
    write_animation(tmp_path / "a.mp4", frames, fps=10, hold=0.5, format="mp4")
    back = iio.imread(tmp_path / "a.mp4", plugin="pyav")
    assert back.shape == (3 + 5, 32, 46, 3)
    assert [abs(int(f.mean()) - v) < 6 for f, v in zip(back, (0, 128, 255), strict=False)] == [True] * 3


def test_without_av_the_answer_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(animate, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"^format: mp4 needs the package av; pip install 'ddpm-cli\[mp4\]'"):
        write_animation(tmp_path / "a.mp4", [np.zeros((4, 4), np.uint8)], 10, 0, "mp4")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_animation_leaves_nothing(tmp_path: Path) -> None:
    for frames, options in (
        ([], {}),
        ([np.zeros((4, 4), np.uint8)], {"fps": 0}),
        ([np.zeros((4, 4), np.uint8)], {"format": "avi"}),
    ):
        with pytest.raises(ValueError, match="^(frames|fps|format): "):
            write_animation(tmp_path / "a.gif", frames, **({"fps": 10.0, "hold": 0.0} | options))  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
