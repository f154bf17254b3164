"""How batches reach the device: every path gives the same batches, and the prefetching thread ends."""

import gc
import threading
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from ddpm_cli.data import feed, images, mapped
from ddpm_cli.data.feed import Resident, prefetched
from ddpm_cli.data.images import Batch, Images
from ddpm_cli.data.mapped import Mapped
from ddpm_cli.data.order import batch_indices

N = 50


def in_memory() -> Images:
    pixels = torch.randint(0, 256, (N, 3, 4, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Images(pixels, torch.arange(N), tuple(map(str, range(N))), flip=True)


def in_file(path: Path) -> Images:
    """The same pictures, as a shuffled selection of a file that holds more."""
    plain = in_memory()
    order = torch.randperm(N + 9, generator=torch.Generator().manual_seed(1))[:N]
    stored = torch.zeros(N + 9, 3, 4, 5, dtype=torch.uint8)
    stored[order] = plain.pixels
    np.save(path, stored.numpy())
    file = Mapped(path)
    return Images(file.pixels, plain.labels, plain.class_names, True, order, file)


def first_batches(images: Images, start: int = 0) -> list[Batch]:
    return list(islice(images.batches(7, 3, start), 20))


def equal(a: list[Batch], b: list[Batch]) -> bool:
    return all(one.x.equal(two.x) and one.y.equal(two.y) for one, two in zip(a, b, strict=True))


def readers() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("batches")]


@pytest.mark.parametrize("start", [0, 11])
def test_memory_file_and_device_give_the_same_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: int
) -> None:
    plain, file = in_memory(), in_file(tmp_path / "x.npy")
    expected = first_batches(plain, start)
    assert equal(first_batches(file, start), expected)
    monkeypatch.setattr(images, "fits", lambda *_: True)
    assert equal(first_batches(plain, start), expected) and equal(first_batches(file, start), expected)
    assert not readers()


def test_batches_follow_their_definition() -> None:
    """Order, then flips, then floats."""
    plain = in_memory()
    for batch, draw in zip(first_batches(plain), batch_indices(N, 7, 3, 0, True), strict=False):
        assert draw.mirrored is not None
        rows = [p.flip(-1) if m else p for p, m in zip(plain.pixels[draw.chosen], draw.mirrored, strict=True)]
        assert batch.x.equal(torch.stack(rows).float() / 127.5 - 1) and batch.y.equal(draw.chosen)


def test_pictures_stay_only_on_a_gpu_with_enough_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = in_memory()
    needed = plain.pixels.numel()
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (4 * needed, 0))
    assert feed.fits(plain, torch.device("cuda")) and not feed.fits(plain, torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (4 * needed - 1, 0))
    assert not feed.fits(plain, torch.device("cuda"))


def test_resident_pictures_are_the_selected_ones(tmp_path: Path) -> None:
    resident = Resident(in_file(tmp_path / "x.npy"), torch.device("cpu"))
    assert resident.pixels.equal(in_memory().pixels) and resident.labels.tolist() == list(range(N))


def test_only_a_mapped_file_needs_a_thread(tmp_path: Path) -> None:
    plain, file = in_memory().batches(7, 3), in_file(tmp_path / "x.npy").batches(7, 3)
    next(plain)
    assert not readers()
    next(file)
    assert len(readers()) == 1
    del file
    assert not readers()


def test_the_thread_ends_when_the_loop_ends_or_fails(tmp_path: Path) -> None:
    file = in_file(tmp_path / "x.npy")
    for _ in file.batches(7, 3):
        break
    assert not readers()

    def fail() -> None:
        for _ in file.batches(7, 3):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    gc.collect()
    assert not readers()


def test_prefetching_keeps_the_order_and_ends() -> None:
    assert list(prefetched(iter(range(100)))) == list(range(100))
    assert list(prefetched(iter([]))) == [] and not readers()


def test_prefetching_runs_ahead_but_not_further_than_depth() -> None:
    made: list[int] = []
    second = threading.Event()

    def items() -> Iterator[int]:
        for i in range(100):
            made.append(i)
            if i == 2:
                second.set()
            yield i

    stream = prefetched(items(), depth=2)
    assert next(stream) == 0
    assert next(stream) == 1 and second.wait(30)  # made before it is requested
    time.sleep(0.05)
    assert len(made) <= 4
    stream.close()  # type: ignore[attr-defined]
    assert not readers()


def test_an_error_is_raised_when_its_item_is_due() -> None:
    def items() -> Iterator[int]:
        yield from range(3)
        raise OSError("the disk is gone")

    stream = prefetched(items())
    assert list(islice(stream, 3)) == [0, 1, 2]
    with pytest.raises(OSError, match="the disk is gone"):
        next(stream)
    assert not readers()


def resident_bytes(path: Path) -> int:
    """The number of bytes of a mapped file that are resident in this process."""
    total, mine = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            mine = line.endswith(str(path))
        elif mine and line.startswith("Rss:"):
            total += int(line.split()[1]) * 1024
    return total


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="reads /proc/self/smaps")
def test_pages_that_were_read_are_released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, n = tmp_path / "x.npy", 8000
    np.save(path, np.random.default_rng(0).integers(0, 256, (n, 3, 32, 32), dtype=np.uint8))
    file = Mapped(path)
    assert int(file.pixels.sum(dtype=torch.int64)) and resident_bytes(path) > 0.9 * path.stat().st_size
    file.release()
    assert resident_bytes(path) == 0
    everything = Images(file.pixels, torch.zeros(n, dtype=torch.int64), (), mapped=file)
    monkeypatch.setattr(mapped, "_KEPT", 2**20)
    half = path.stat().st_size // 2  # more than four pictures and the up to 2 MiB that Linux maps around each
    for _ in islice(everything.batches(4, 0), 100):
        assert resident_bytes(path) < half
    for part in everything.raw(100):
        assert int(part.sum()) and resident_bytes(path) < half


def test_selections_of_a_file_are_not_copied(tmp_path: Path) -> None:
    file = in_file(tmp_path / "x.npy")
    for view in (file, file.take(5), file.subset(torch.arange(30)), file.subset(torch.arange(30)).take(2)):
        assert view.stored.data_ptr() == file.stored.data_ptr() and view.mapped is file.mapped
        assert "pixels" not in vars(view)
        next(view.batches(2, 0))
        next(view.chunks(2))
        assert "pixels" not in vars(view)


def test_files_that_are_not_pictures_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros(3))
    with pytest.raises(ValueError, match="is not an array of pictures"):
        Mapped(tmp_path / "x.npy")
    (tmp_path / "y.npy").write_text("no numbers at all")
    with pytest.raises(ValueError):
        Mapped(tmp_path / "y.npy")
