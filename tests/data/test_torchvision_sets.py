"""torchvision's datasets from small files in its layouts: reading, damaged and missing files."""

import gzip
import hashlib
import io
import pickle
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image
from torchvision import datasets

from ddpm_cli.data.celeba import CelebA
from ddpm_cli.data.torchvision_sets import TorchvisionSet
from ddpm_cli.errors import DataError

RNG = np.random.default_rng(0)
GREY = {"size": 28, "channels": 1}


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}i", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_mnist(root: Path, title: str = "MNIST", zipped: bool = False) -> dict[str, np.ndarray]:
    raw = root / title / "raw"
    raw.mkdir(parents=True)
    written = {}
    for part, n in (("train", 20), ("t10k", 6)):
        written[part] = RNG.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        labels = (np.arange(n) % 10).astype(np.uint8)
        for name, array in ((f"{part}-images-idx3-ubyte", written[part]), (f"{part}-labels-idx1-ubyte", labels)):
            if zipped:
                (raw / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
            else:
                (raw / name).write_bytes(idx(array))
    return written


def make(name: str, root: Path, **fields: Any) -> TorchvisionSet:
    return TorchvisionSet(name=name, root=str(root), **{"download": False, **fields})


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(("name", "title"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")])
def test_mnist_family(tmp_path: Path, name: str, title: str, zipped: bool) -> None:
    written = write_mnist(tmp_path, title, zipped)
    before = sorted(tmp_path.rglob("*"))
    train, val = (make(name, tmp_path, flip=True, **GREY).load(split) for split in ("train", "val"))
    assert np.array_equal(train.pixels[:, 0].numpy(), written["train"])
    assert np.array_equal(val.pixels[:, 0].numpy(), written["t10k"])
    assert train.labels.tolist() == [i % 10 for i in range(20)]
    assert train.class_names[0] == {"mnist": "0", "fashion_mnist": "T-shirt/top"}[name]
    assert train.classes == 10 and train.flip and not val.flip
    assert sorted(tmp_path.rglob("*")) == before  # the .gz files are not unpacked, so that the folder may be read-only


def test_a_fraction_is_held_out_of_the_training_pictures(tmp_path: Path) -> None:
    written = write_mnist(tmp_path)
    train, val = (make("mnist", tmp_path, val_fraction=0.2, **GREY).load(split) for split in ("train", "val"))
    assert (len(train), len(val)) == (16, 4)
    both = torch.cat([train.pixels, val.pixels])[:, 0].numpy()
    assert sorted(map(bytes, both)) == sorted(map(bytes, written["train"]))


def test_other_sizes_and_channels(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    images = make("mnist", tmp_path, size=(16, 20), channels=3).load("train")
    assert images.shape == (3, 16, 20) and images.pixels.is_contiguous()


@pytest.mark.parametrize("zipped", [False, True])
def test_a_truncated_idx_file_is_named(tmp_path: Path, zipped: bool) -> None:
    write_mnist(tmp_path, zipped=zipped)
    (file,) = (tmp_path / "MNIST" / "raw").glob("train-images*")
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(DataError, match=rf"{file.name}: .*; remove it and run again"):
        make("mnist", tmp_path, **GREY).load("train")
    assert len(make("mnist", tmp_path, **GREY).load("val")) == 6


@pytest.mark.parametrize("content", [b"", b"<html>not here</html>", idx(np.zeros(3, np.uint8))])
def test_a_file_that_is_not_idx_is_named(tmp_path: Path, content: bytes) -> None:
    write_mnist(tmp_path)
    (tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(DataError, match="train-images-idx3-ubyte: is not an idx file"):
        make("mnist", tmp_path, **GREY).load("train")


def test_a_different_number_of_labels(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    (tmp_path / "MNIST" / "raw" / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(3, np.uint8)))
    with pytest.raises(
        DataError, match="train-labels-idx1-ubyte: has 3 labels but train-images-idx3-ubyte has 20 pictures"
    ):
        make("mnist", tmp_path, **GREY).load("train")


def test_missing_files_without_download(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        make("fashion_mnist", tmp_path, **GREY).load("train")
    assert str(caught.value) == (
        f"{tmp_path}: has no FashionMNIST; put train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, "
        f"t10k-images-idx3-ubyte.gz, t10k-labels-idx1-ubyte.gz into {tmp_path}/FashionMNIST/raw "
        "or set dataset.download=true"
    )


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def write_cifar(root: Path, monkeypatch: pytest.MonkeyPatch, title: str, packed: bool = False) -> np.ndarray:
    """Write two training batches, a test batch and the class names, and make torchvision expect just these."""
    cls = getattr(datasets, title)
    key = "labels" if title == "CIFAR10" else "fine_labels"
    pixels = RNG.integers(0, 256, (30, 3 * 32 * 32), dtype=np.uint8)
    parts = {f"batch_{i}": {"data": pixels[i * 10 : i * 10 + 10], key: list(range(10))} for i in range(3)}
    files = {name: pickle.dumps(part) for name, part in parts.items()}
    files["meta"] = pickle.dumps({cls.meta["key"]: [f"class {i}" for i in range(cls_classes(title))]})
    (root / cls.base_folder).mkdir(parents=True)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(f"{cls.base_folder}/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
            if not packed:
                (root / cls.base_folder / name).write_bytes(data)
    if packed:
        (root / cls.filename).write_bytes(archive.getvalue())
    monkeypatch.setattr(cls, "tgz_md5", md5(archive.getvalue()))
    monkeypatch.setattr(cls, "train_list", [[n, md5(files[n])] for n in ("batch_0", "batch_1")])
    monkeypatch.setattr(cls, "test_list", [["batch_2", md5(files["batch_2"])]])
    monkeypatch.setattr(cls, "meta", {"filename": "meta", "key": cls.meta["key"], "md5": md5(files["meta"])})
    return pixels.reshape(30, 3, 32, 32)


def cls_classes(title: str) -> int:
    return int(title.removeprefix("CIFAR"))


@pytest.mark.parametrize("title", ["CIFAR10", "CIFAR100"])
def test_cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, title: str) -> None:
    pixels = write_cifar(tmp_path, monkeypatch, title)
    train, val = (make(title.lower(), tmp_path).load(split) for split in ("train", "val"))
    assert np.array_equal(train.pixels.numpy(), pixels[:20]) and np.array_equal(val.pixels.numpy(), pixels[20:])
    assert train.labels.tolist() == [*range(10), *range(10)]
    assert train.class_names[3] == "class 3" and train.classes == cls_classes(title)


def test_a_cifar_archive_is_unpacked_without_a_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar(tmp_path, monkeypatch, "CIFAR10", packed=True)
    assert len(make("cifar10", tmp_path).load("train")) == 20


def test_a_damaged_cifar_batch_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar(tmp_path, monkeypatch, "CIFAR10")
    file = tmp_path / "cifar-10-batches-py" / "batch_1"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DataError, match=rf"^{file}: is damaged \(.*\); remove it and run again"):
        make("cifar10", tmp_path, download=True).load("train")


def write_svhn(root: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    pixels = RNG.integers(0, 256, (32, 32, 3, 12), dtype=np.uint8)
    entries = {}
    for split in ("train", "test"):
        file = root / f"{split}_32x32.mat"
        scipy.io.savemat(file, {"X": pixels, "y": np.arange(1, 13)[:, None] % 11})
        entries[split] = ["", file.name, md5(file.read_bytes())]
    monkeypatch.setattr(datasets.SVHN, "split_list", entries)
    return pixels.transpose(3, 2, 0, 1)


def test_svhn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = write_svhn(tmp_path, monkeypatch)
    train = make("svhn", tmp_path).load("train")
    assert np.array_equal(train.pixels.numpy(), pixels)
    assert train.labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0, 1]  # 10 stands for the digit 0
    assert train.class_names == tuple("0123456789")
    assert make("svhn", tmp_path, channels=1, size=16).load("val").shape == (1, 16, 16)


def test_a_damaged_mat_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_svhn(tmp_path, monkeypatch)
    (tmp_path / "train_32x32.mat").write_bytes(b"short")
    with pytest.raises(DataError, match=r"train_32x32\.mat: is damaged"):
        make("svhn", tmp_path).load("train")


def write_celeba(root: Path, n: int = 12) -> None:
    pictures = root / "celeba" / "img_align_celeba"
    pictures.mkdir(parents=True)
    for i in range(n):
        pixels = np.zeros((218, 178, 3), np.uint8)
        pixels[20:198] = 20 * i  # the square in the middle
        pixels[:10], pixels[-10:] = 255, 255
        Image.fromarray(pixels).save(pictures / f"{i:06}.jpg", quality=95)
    lines = [f"{i:06}.jpg {0 if i < 8 else 1 if i < 9 else 2}" for i in range(n)]
    (root / "celeba" / "list_eval_partition.txt").write_text("\n".join(lines) + "\n")


def test_celeba(tmp_path: Path) -> None:
    write_celeba(tmp_path)
    calls: list[tuple[str, int, int]] = []
    source = CelebA(root=str(tmp_path), size=16, download=False)
    train, val = source.load("train", lambda *call: calls.append(call)), source.load("val")
    assert train.shape == (3, 16, 16) and train.classes == 0
    assert (train.pixels[:, 0, 8, 8].int() - torch.arange(8) * 20).abs().max() <= 2
    assert (len(train), len(val)) == (8, 3)
    assert train.pixels.max() < 160  # the white edges are cropped
    assert calls[-1] == ("decoding", 8, 8)
    held = CelebA(root=str(tmp_path), size=8, download=False, val_fraction=0.25)
    assert (len(held.load("train")), len(held.load("val"))) == (6, 2)


def test_celeba_is_unpacked_from_its_zip(tmp_path: Path) -> None:
    import shutil

    write_celeba(tmp_path)
    base = tmp_path / "celeba"
    shutil.make_archive(str(base / "img_align_celeba"), "zip", base, "img_align_celeba")
    shutil.rmtree(base / "img_align_celeba")
    assert len(CelebA(root=str(tmp_path), size=8, download=False).load("train")) == 8
    names = {path.name for path in base.iterdir()}
    assert names == {"img_align_celeba", "img_align_celeba.zip", "list_eval_partition.txt"}


def test_celeba_with_one_or_all_pictures_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no CelebA; put img_align_celeba\.zip, .* into .*celeba or set"):
        CelebA(root=str(tmp_path), download=False).load("train")
    write_celeba(tmp_path)
    (tmp_path / "celeba" / "img_align_celeba" / "000003.jpg").unlink()
    with pytest.raises(DataError, match=r"000003\.jpg: is not a readable picture \(No such file"):
        CelebA(root=str(tmp_path)).load("train")
    (tmp_path / "celeba" / "list_eval_partition.txt").write_text("one two three\n")
    with pytest.raises(DataError, match=r"list_eval_partition\.txt: is damaged"):
        CelebA(root=str(tmp_path)).load("train")


def test_field_checks(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^name: must be one of mnist, .*, got 'imagenet'"):
        make("imagenet", tmp_path)
    with pytest.raises(ValueError, match=r"^classes: must be 10 or 0"):
        make("mnist", tmp_path, classes=5)
    with pytest.raises(ValueError, match=r"^channels: must be 1 or 3, got 2"):
        make("mnist", tmp_path, channels=2)
    with pytest.raises(DataError, match=r"^dataset\.root: is not set"):
        TorchvisionSet(name="mnist").load("train")
