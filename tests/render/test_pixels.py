"""One fixed scale, sensible layouts, files that are complete or absent."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm_cli.render import files
from ddpm_cli.render.files import write_images, write_npz, write_png
from ddpm_cli.render.pixels import balanced, enlarge, grid, suited_scale, to_uint8
from ddpm_cli.render.preview import half_blocks, shades


def test_the_scale_is_fixed() -> None:
    x = torch.tensor([-5.0, -1.0, -0.5, 0.0, 0.5, 1.0, 5.0, float("nan"), float("inf"), float("-inf")])
    assert to_uint8(x).tolist() == [0, 0, 64, 128, 191, 255, 255, 0, 255, 0]
    lonely = to_uint8(torch.tensor([-0.5, 0.5]))  # no per-picture minimum and maximum
    assert lonely.tolist() == [64, 191]


def test_every_byte_survives_the_way_to_the_network_and_back() -> None:
    from ddpm_cli.data.images import to_float

    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_float(every)), every)


@pytest.mark.parametrize(
    ("n", "columns"), [(1, 1), (2, 2), (4, 2), (10, 5), (16, 4), (64, 8), (100, 10), (7, 3), (12, 4), (50, 10)]
)
def test_layouts_are_balanced(n: int, columns: int) -> None:
    assert balanced(n) == columns


def test_a_grid_has_every_tile_in_its_place() -> None:
    tiles = torch.arange(6, dtype=torch.uint8).view(6, 1, 1, 1).expand(6, 1, 2, 3).contiguous()
    picture = grid(tiles, columns=3)
    assert picture.shape == (7, 13, 1)
    assert [int(picture[1 + 3 * (i // 3), 1 + 4 * (i % 3), 0]) for i in range(6)] == list(range(6))
    assert (picture[0] == 255).all() and (picture[:, 4] == 255).all()
    assert enlarge(picture, 3).shape == (21, 39, 1)


def test_small_tiles_are_enlarged_and_large_ones_are_not() -> None:
    assert [suited_scale((s, s)) for s in (8, 28, 32, 64, 256)] == [8, 2, 2, 1, 1]
    assert suited_scale((8, 8), 3) == 3


@pytest.mark.parametrize("channels", [1, 3])
def test_png_and_npz_keep_every_value(channels: int, tmp_path: Path) -> None:
    images = torch.randint(0, 256, (3, channels, 4, 5), dtype=torch.uint8)
    write_images(tmp_path, images, start=7)
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"{i:06d}.png" for i in (7, 8, 9)]
    back = np.asarray(Image.open(tmp_path / "000008.png")).reshape(4, 5, channels)
    assert np.array_equal(back, images[1].permute(1, 2, 0).numpy())
    write_npz(tmp_path / "a.npz", images, torch.tensor([4, 5, 6]))
    with np.load(tmp_path / "a.npz") as stored:
        assert stored["arr_0"].shape == (3, 4, 5, channels) and stored["arr_0"].dtype == np.uint8
        assert stored["arr_1"].tolist() == [4, 5, 6] and stored["arr_1"].dtype == np.int64
    write_npz(tmp_path / "b.npz", images)
    with np.load(tmp_path / "b.npz") as stored:
        assert stored.files == ["arr_0"]


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError("disk")

    monkeypatch.setattr(files.np, "savez", broken)
    with pytest.raises(OSError, match="disk"):
        write_npz(tmp_path / "a.npz", torch.zeros(1, 1, 2, 2, dtype=torch.uint8))
    with pytest.raises(FileNotFoundError):
        write_png(tmp_path / "no" / "a.png", np.zeros((2, 2, 1), np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_half_blocks_show_two_pixels_a_character() -> None:
    picture = np.zeros((3, 4, 3), np.uint8)
    picture[0, 0], picture[1, 0], picture[2, 3] = (1, 2, 3), (4, 5, 6), (7, 8, 9)
    rows = half_blocks(picture, columns=10)
    assert len(rows) == 2 and len(rows[0]) == 4
    assert rows[0][0] == ((1, 2, 3), (4, 5, 6))
    assert rows[1][3] == ((7, 8, 9), (7, 8, 9))  # an odd last line is doubled


def test_previews_shrink_to_fit() -> None:
    picture = np.full((50, 200, 1), 77, np.uint8)
    rows = half_blocks(picture, columns=40)
    assert len(rows[0]) == 40 and len(rows) == 5 and rows[0][0] == ((77,) * 3, (77,) * 3)
    lines = shades(np.full((10, 10, 1), 255, np.uint8), columns=80)
    assert lines == ["@" * 20] * 10
    assert shades(np.zeros((1, 3, 1), np.uint8), columns=80) == [""]
