"""torchvision's own download from a local server: success, failure, incomplete files, what is kept."""

import gzip
import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchvision import datasets
from torchvision.datasets import utils

from ddpm_cli.data.celeba import CelebA
from ddpm_cli.data.torchvision_sets import TorchvisionSet
from ddpm_cli.errors import DataError, StorageError

from .test_torchvision_sets import idx


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the four files of a small MNIST, served at the only mirror that torchvision knows."""
    folder = tmp_path / "served"
    folder.mkdir()
    resources = []
    for part, n in (("train", 30), ("t10k", 5)):
        pictures = np.full((n, 28, 28), n, np.uint8)
        for name, array in (("images-idx3", pictures), ("labels-idx1", np.arange(n, dtype=np.uint8) % 10)):
            data = gzip.compress(idx(array))
            (folder / f"{part}-{name}-ubyte.gz").write_bytes(data)
            resources.append((f"{part}-{name}-ubyte.gz", hashlib.md5(data, usedforsecurity=False).hexdigest()))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setattr(datasets.MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
    monkeypatch.setattr(datasets.MNIST, "resources", resources)
    yield folder
    server.shutdown()
    thread.join()
    server.server_close()


def mnist(root: Path) -> TorchvisionSet:
    return TorchvisionSet(name="mnist", root=str(root), size=28, channels=1, classes=10)


def test_a_download_reports_progress_and_prints_nothing(
    served: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    calls: list[tuple[str, int, int]] = []
    tqdm = utils.tqdm
    images = mnist(tmp_path / "data").load("train", lambda *call: calls.append(call))
    assert len(images) == 30 and (images.pixels == 30).all()
    assert {what for what, _, _ in calls} == {"downloading MNIST"}
    assert [done for _, done, total in calls if done == total] == [f.stat().st_size for f in ordered(served)]
    assert capfd.readouterr() == ("", "")
    assert utils.tqdm is tqdm


def ordered(folder: Path) -> list[Path]:
    return [folder / name for name, _ in datasets.MNIST.resources]


def test_the_second_load_needs_no_server(served: Path, tmp_path: Path) -> None:
    mnist(tmp_path / "data").load("train")
    for file in served.iterdir():
        file.unlink()
    assert len(mnist(tmp_path / "data").load("val")) == 5


def test_a_failed_download_is_one_line_that_names_files_and_folder(served: Path, tmp_path: Path) -> None:
    (served / "train-images-idx3-ubyte.gz").unlink()
    root = tmp_path / "new" / "data"
    with pytest.raises(DataError) as caught:
        mnist(root).load("train")
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{root}: could not download MNIST (") and "404" in message
    assert message.endswith(
        "; put train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz, "
        f"t10k-labels-idx1-ubyte.gz into {root}/MNIST/raw or set dataset.root=FOLDER"
    )
    assert not (tmp_path / "new").exists()


def test_incomplete_files_are_removed_complete_ones_stay_and_the_next_try_works(served: Path, tmp_path: Path) -> None:
    bad = served / "t10k-images-idx3-ubyte.gz"
    whole = bad.read_bytes()
    bad.write_bytes(whole[:-9])
    with pytest.raises(DataError, match="could not download MNIST"):
        mnist(tmp_path / "data").load("train")
    raw = tmp_path / "data" / "MNIST" / "raw"
    assert {f.name for f in raw.iterdir()} == {"train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"}
    bad.write_bytes(whole)
    assert len(mnist(tmp_path / "data").load("val")) == 5


def test_an_interrupted_download_leaves_no_incomplete_files(served: Path, tmp_path: Path) -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mnist(tmp_path / "data").load("train", interrupt)
    assert not [f for f in (tmp_path / "data").rglob("*-ubyte*") if f.suffix != ".gz"]
    assert len(mnist(tmp_path / "data").load("train")) == 30


def test_an_unreachable_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.SVHN, "split_list", {"train": ["http://127.0.0.1:9/x.mat", "x.mat", "0" * 32]})
    with pytest.raises(DataError, match=r"could not download SVHN \(.*refused.*\); put x\.mat into"):
        TorchvisionSet(name="svhn", root=str(tmp_path)).load("train")
    assert list(tmp_path.iterdir()) == []


def test_a_root_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(StorageError, match="cannot be written"):
        mnist(tmp_path / "data").load("train")


def test_celeba_without_gdown_names_the_files_and_their_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "gdown", None)
    monkeypatch.setattr(utils, "_get_google_drive_file_id", lambda url: pytest.fail("no network here"))
    with pytest.raises(DataError, match=r"could not download CelebA \(.*gdown.*\); put img_align_celeba\.zip, .* into"):
        CelebA(root=str(tmp_path)).load("train")


def test_a_page_in_the_place_of_an_archive_is_named(tmp_path: Path) -> None:
    """A server that is out of quota answers with a page, which a browser saves under the name of the archive."""
    folder = tmp_path / "celeba"
    folder.mkdir()
    (folder / "list_eval_partition.txt").write_text("000001.jpg 0\n")
    (folder / "img_align_celeba.zip").write_bytes(b"<!DOCTYPE html><html>Quota exceeded</html>" * 50)
    with pytest.raises(
        DataError, match=r"img_align_celeba\.zip: is damaged or another file, and .* remove it, then put"
    ):
        CelebA(root=str(tmp_path), download=False).load("train")
    assert (folder / "img_align_celeba.zip").exists()
