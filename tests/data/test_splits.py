"""The training, validation and test pictures of each dataset."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.utils.data import random_split

from ddpm_cli.data.celeba import CelebA
from ddpm_cli.data.convert import split_indices
from ddpm_cli.data.digits import Digits
from ddpm_cli.data.image_folder import ImageFolder
from ddpm_cli.errors import DataError

from .test_torchvision_sets import GREY, make, write_mnist


@pytest.mark.parametrize("fraction", [None, 0.0, 0.2])
def test_the_official_test_pictures_are_always_the_same(tmp_path: Path, fraction: float | None) -> None:
    written = write_mnist(tmp_path)
    source = make("mnist", tmp_path, val_fraction=fraction, flip=True, **GREY)
    test, val = source.load("test"), source.load("val")
    assert source.has_test and not test.flip
    assert (test.pixels[:, 0].numpy() == written["t10k"]).all() and test.labels.tolist() == list(range(6))
    assert torch.equal(val.pixels, test.pixels) == (fraction is None)
    assert len(source.load("train")) + (0 if fraction is None else len(val)) == 20


def test_celebas_official_test_pictures(tmp_path: Path) -> None:
    folder = tmp_path / "celeba" / "img_align_celeba"
    folder.mkdir(parents=True)
    lines = []
    for i in range(12):  # grey i * 20; 8 to train, 1 official validation picture, 3 to test
        Image.new("RGB", (178, 218), (i * 20,) * 3).save(folder / f"{i:06}.png")
        lines.append(f"{i:06}.png {0 if i < 8 else 1 if i == 8 else 2}")
    (tmp_path / "celeba/list_eval_partition.txt").write_text("\n".join(lines))
    for fraction in (None, 0.25):
        source = CelebA(root=str(tmp_path), size=4, val_fraction=fraction, download=False)
        assert source.load("test").pixels[:, 0, 0, 0].tolist() == [180, 200, 220]
        assert len(source.load("val")) == (3 if fraction is None else 2)


def test_datasets_without_test_pictures(tmp_path: Path) -> None:
    for i in range(4):
        Image.new("L", (8, 8)).save(tmp_path / f"{i}.png")
    for source in (Digits(), ImageFolder(root=str(tmp_path), size=8)):
        assert not source.has_test
        with pytest.raises(DataError, match=f"^split: {source.name} has no official test pictures; use split=val"):
            source.load("test")


def test_a_seeded_split_is_the_same_as_torchs() -> None:
    """45,000 and 5,000 with seed 42, as `random_split` with a generator makes them."""
    train, val = random_split(range(50_000), [45_000, 5_000], generator=torch.Generator().manual_seed(42))  # type: ignore[arg-type,var-annotated]
    assert split_indices(50_000, 0.1, False, 42).tolist() == sorted(train.indices)
    assert split_indices(50_000, 0.1, True, 42).tolist() == sorted(val.indices)
    assert split_indices(50_000, 0.1, True, 42).tolist() != split_indices(50_000, 0.1, True).tolist()


@pytest.mark.parametrize(("n", "fraction", "held"), [(1, 0.5, 0), (2, 0.01, 1), (2, 0.99, 1), (10, 0.0, 0)])
def test_a_seeded_split_is_never_empty(n: int, fraction: float, held: int) -> None:
    train, val = (split_indices(n, fraction, held_out, 7) for held_out in (False, True))
    assert len(val) == held and sorted([*train.tolist(), *val.tolist()]) == list(range(n))


def test_every_dataset_accepts_a_seed(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    for make_one in (lambda s: Digits(split_seed=s), lambda s: make("mnist", tmp_path, val_fraction=0.2, split_seed=s)):
        ours, seven, again = (make_one(seed).load("val").pixels for seed in (None, 7, 7))
        assert torch.equal(seven, again) and not torch.equal(ours, seven)
    with pytest.raises(ValueError, match="^split_seed: must be at least 0"):
        Digits(split_seed=-1)
