"""PNG and npz files read back as they were written, and are complete or absent."""

from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from PIL import Image

from ddpm_cli.render import files
from ddpm_cli.render.files import write_images, write_npz, write_png


@pytest.fixture(params=[1, 3])
def images(request: pytest.FixtureRequest) -> torch.Tensor:
    g = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, request.param, 4, 6), generator=g, dtype=torch.uint8)


def test_images_are_numbered(images: torch.Tensor, tmp_path: Path) -> None:
    write_images(tmp_path, images, start=99)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["000099.png", "000100.png", "000101.png"]
    image = Image.open(tmp_path / "000100.png")
    assert image.mode == ("L" if images.shape[1] == 1 else "RGB")
    assert np.array_equal(np.array(image).reshape(4, 6, -1), images[1].permute(1, 2, 0).numpy())


def test_npz_has_the_arrays_that_evaluators_read(images: torch.Tensor, tmp_path: Path) -> None:
    write_npz(tmp_path / "samples.npz", images, torch.tensor([2, 0, 1], dtype=torch.int32))
    with np.load(tmp_path / "samples.npz") as archive:
        assert list(archive) == ["arr_0", "arr_1"]
        assert archive["arr_0"].dtype == np.uint8 and archive["arr_1"].dtype == np.int64
        assert np.array_equal(archive["arr_0"], images.permute(0, 2, 3, 1).numpy())
        assert archive["arr_1"].tolist() == [2, 0, 1]
    assert [p.name for p in tmp_path.iterdir()] == ["samples.npz"]


def test_npz_without_labels(images: torch.Tensor, tmp_path: Path) -> None:
    write_npz(tmp_path / "samples.npz", images, None)
    with np.load(tmp_path / "samples.npz") as archive:
        assert list(archive) == ["arr_0"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    black = torch.zeros(1, 1, 2, 2, dtype=torch.uint8)
    write_npz(tmp_path / "a.npz", black)
    before = (tmp_path / "a.npz").read_bytes()

    def half(file: object, *arrays: np.ndarray) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise OSError("no space left")

    monkeypatch.setattr(np, "savez", half)
    with pytest.raises(OSError, match="no space"):
        write_npz(tmp_path / "a.npz", black)
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"] and (tmp_path / "a.npz").read_bytes() == before


def test_a_png_that_cannot_be_encoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> bytes:
        raise OSError("no space left")

    monkeypatch.setattr(files.iio, "imwrite", fail)
    with pytest.raises(OSError, match="no space"):
        write_png(tmp_path / "a.png", np.zeros((2, 2, 3), np.uint8))
    assert not list(tmp_path.iterdir())


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_png(tmp_path / "no" / "a.png", np.zeros((2, 2, 1), np.uint8))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 3)])
def test_png_shapes(shape: tuple[int, ...], tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    write_png(tmp_path / "a.png", picture)
    assert np.array_equal(iio.imread(tmp_path / "a.png").reshape(shape), picture)
