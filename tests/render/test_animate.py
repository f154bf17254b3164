"""Animations are read back: colours, durations, static areas that do not flicker."""

import sys
from collections.abc import Sequence
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from PIL import Image

from ddpm_cli.diffusion.schedule import LinearSchedule
from ddpm_cli.render.animate import write_animation
from ddpm_cli.render.caption import LINE
from ddpm_cli.render.forward import forward_frames
from ddpm_cli.render.pixels import BACKGROUND, EDGE, GAP, MARGIN


def noise(count: int, *shape: int) -> list[np.ndarray]:
    """Frames of noise within a white margin of 4."""
    rng = np.random.default_rng(0)
    frames = [np.full(shape, 255, np.uint8) for _ in range(count)]
    for frame in frames:
        inside = frame[4:-4, 4:-4]
        inside[:] = rng.integers(0, 256, inside.shape, np.uint8)
    return frames


def gif(path: Path, frames: Sequence[np.ndarray], fps: float = 10, hold: float = 1.0) -> tuple[np.ndarray, list[int]]:
    """Write and read back: frames (F,H,W,3) as displayed, and durations in milliseconds."""
    write_animation(path, frames, fps=fps, hold=hold)
    with Image.open(path) as image:
        assert image.info["loop"] == 0
        shown, durations = [], []
        for i in range(image.n_frames):
            image.seek(i)
            shown.append(np.array(image.convert("RGB")))
            durations.append(int(image.info["duration"]))
    return np.stack(shown), durations


@pytest.mark.parametrize("shape", [(20, 24), (20, 24, 1)])
def test_grey_is_lossless(shape: tuple[int, ...], tmp_path: Path) -> None:
    frames = noise(5, *shape)
    frames[2][4:20:1, 4:20].reshape(-1)[:] = 0
    shown, _ = gif(tmp_path / "a.gif", frames)
    for channel in range(3):
        assert np.array_equal(shown[..., channel], np.stack(frames).reshape(5, 20, 24))


@pytest.mark.parametrize(
    ("fps", "hold", "expected"), [(10, 1.5, [100, 100, 1500]), (15, 0, [70, 60, 70]), (500, 2, [20, 20, 2000])]
)
def test_durations(fps: float, hold: float, expected: list[int], tmp_path: Path) -> None:
    for shape in ((16, 16), (16, 16, 3)):
        assert gif(tmp_path / "a.gif", noise(3, *shape), fps, hold)[1] == expected


def test_equal_frames_keep_their_durations(tmp_path: Path) -> None:
    for shape in ((16, 16), (16, 16, 3)):
        (frame,) = noise(1, *shape)
        other = 255 - frame
        assert sum(gif(tmp_path / "a.gif", [frame, other, other], fps=10, hold=1.0)[1]) == 1200


def test_colours_are_close_and_the_background_is_exact(tmp_path: Path) -> None:
    frames = noise(6, 40, 40, 3)
    shown, _ = gif(tmp_path / "a.gif", frames)
    assert len(shown) == 6
    outside = np.ones((40, 40), bool)
    outside[4:-4, 4:-4] = False
    assert (shown[:, outside] == 255).all()
    assert np.abs(shown.astype(int) - np.stack(frames)).mean() < 12


def test_everything_around_the_tiles_is_constant(tmp_path: Path) -> None:
    """In a real colour layout, margins, gaps and tile edges are exactly the same in every frame."""
    images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    frames = forward_frames(images, LinearSchedule(), 8, seed=0, total_steps=1000)
    shown, _ = gif(tmp_path / "a.gif", frames)
    around = np.ones(shown.shape[1:3], bool)
    for i in range(4):
        top, left = MARGIN + LINE + 1 + i // 2 * (82 + GAP), MARGIN + 1 + i % 2 * (82 + GAP)
        around[top : top + 80, left : left + 80] = False
    below = around.copy()
    below[: MARGIN + LINE] = False
    assert np.array_equal(shown[:, below], np.stack(frames)[:, below])
    assert set(np.unique(shown[:, below])) == {EDGE, BACKGROUND}
    letters = np.abs(shown[:, : MARGIN + LINE].astype(int) - np.stack(frames)[:, : MARGIN + LINE])
    assert letters.max() <= 16  # antialiased outlines use few greys


def test_a_smooth_picture_is_close(tmp_path: Path) -> None:
    """Also while it turns into noise, which needs other colours."""
    rng = np.random.default_rng(0)
    smooth = np.stack([*np.meshgrid(np.linspace(0, 255, 48), np.linspace(0, 255, 48)), np.full((48, 48), 90.0)], 2)
    frames = []
    for share in np.linspace(0, 1, 20):
        frame = np.full((60, 60, 3), 255, np.uint8)
        frame[6:54, 6:54] = np.clip(smooth * (1 - share) + rng.uniform(0, 255, smooth.shape) * share, 0, 255)
        frames.append(frame)
    error = np.abs(gif(tmp_path / "a.gif", frames)[0].astype(int) - np.stack(frames)).mean((1, 2, 3))
    assert len(error) == 20 and error.max() < 16 and error[0] < 8


def test_few_colours_are_kept(tmp_path: Path) -> None:
    frames = [np.full((16, 16, 3), 255, np.uint8) for _ in range(3)]
    for i, frame in enumerate(frames):
        frame[4:8, 4 + i : 8 + i] = (200, 30, 60)
        frame[10:12, 4:12] = (20 * i, 120, 250)
    shown, _ = gif(tmp_path / "a.gif", frames)
    assert np.abs(shown.astype(int) - np.stack(frames)).max() <= 3


def test_static_areas_do_not_flicker(tmp_path: Path) -> None:
    """A photograph with more than 256 colours beside noise that changes all the time."""
    frames = noise(8, 32, 64, 3)
    y, x = np.mgrid[:24, :24]
    still = np.stack([x * 10, y * 10, 255 - (x + y) * 5], -1).astype(np.uint8)
    for frame in frames:
        frame[4:28, 36:60] = still
    shown = gif(tmp_path / "a.gif", frames)[0][:, 4:28, 36:60].astype(int)
    error = np.square(shown - still).sum(-1)
    assert (np.diff(error, axis=0) <= 0).all()  # every pixel only gets closer
    assert error[-1].mean() < error[0].mean() / 2
    changing = (np.diff(shown, axis=0) != 0).any(-1).mean((1, 2))
    assert changing[0] < 0.6 and changing[-1] < 0.2, changing


@pytest.mark.parametrize("shape", [(31, 33), (31, 33, 3), (32, 32, 1)])
def test_mp4_is_read_back(shape: tuple[int, ...], tmp_path: Path) -> None:
    pytest.importorskip("av")
    frames = [np.full(shape, v, np.uint8) for v in (0, 60, 120, 180, 240)]
    write_animation(tmp_path / "a.mp4", frames, fps=10, hold=1.0, format="mp4")
    shown = iio.imread(tmp_path / "a.mp4", plugin="pyav")
    assert shown.shape == (5 + 9, 32, shape[1] + shape[1] % 2, 3)
    assert np.abs(shown[:5].astype(int).mean((1, 2, 3)) - [0, 60, 120, 180, 240]).max() < 4
    assert np.abs(shown[5:].astype(int) - 240).max() < 6
    metadata = iio.immeta(tmp_path / "a.mp4", plugin="pyav")
    assert metadata["codec"] == "h264" and metadata["fps"] == 10
    assert iio.improps(tmp_path / "a.mp4", plugin="pyav").shape[1:3] == shown.shape[1:3]
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_mp4_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ValueError) as error:
        write_animation(tmp_path / "a.mp4", noise(2, 16, 16), fps=10, hold=1, format="mp4")
    assert str(error.value) == "format: mp4 needs the package av; pip install 'ddpm-cli[mp4]' or use format=gif"
    assert not list(tmp_path.iterdir())


def test_complete_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(path: Path, *_: object) -> None:
        with path.open("wb") as file:
            file.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OSError, match="no space"):
        write_animation(tmp_path / "a.gif", noise(2, 16, 16), fps=10, hold=1)
    pytest.importorskip("av")
    with pytest.raises(OSError, match="no space"):
        write_animation(tmp_path / "a.mp4", noise(2, 16, 16), fps=10, hold=1, format="mp4")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("frames", {"frames": []}),
        ("frames", {"frames": [np.zeros((4, 4), np.uint8), np.zeros((4, 5), np.uint8)]}),
        ("fps", {"fps": 0}),
        ("hold", {"hold": -1}),
        ("hold", {"hold": 1e6}),
        ("format", {"format": "webp"}),
    ],
)
def test_wrong_arguments_are_named(key: str, wrong: dict[str, object], tmp_path: Path) -> None:
    arguments: dict[str, object] = {"frames": noise(2, 16, 16), "fps": 10, "hold": 1} | wrong
    with pytest.raises(ValueError, match=f"^{key}: "):
        write_animation(tmp_path / "a.gif", **arguments)  # type: ignore[arg-type]
