"""Caches of decoded pictures: the same pixels as without, made once, never used when damaged or incomplete."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image

from ddpm_cli.data import cache, cache_file, cache_store, parallel
from ddpm_cli.data.cache_key import PictureFiles
from ddpm_cli.data.celeba import CelebA
from ddpm_cli.data.decode import Decoder
from ddpm_cli.data.image_folder import ImageFolder
from ddpm_cli.data.images import Images
from ddpm_cli.errors import ConfigError, DataError

N = 100


def picture(path: Path, seed: int, size: int = 12) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)).save(path)


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(parallel, "cores", lambda: 2)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    caplog.set_level(logging.INFO, "ddpm_cli")


class Folder(NamedTuple):
    root: Path
    kept: Path

    def load(self, split: Any = "train", **fields: Any) -> Images:
        chosen: dict[str, Any] = {"root": str(self.root), "size": 8, "val_fraction": 0.2, "cache": str(self.kept)}
        return ImageFolder(**chosen | fields).load(split)

    def plain(self, split: Any = "train", **fields: Any) -> Images:
        return self.load(split, **fields, cache=False)

    def files(self, suffix: str = "") -> list[Path]:
        return sorted(p for p in self.kept.glob(f"*{suffix}") if not p.name.startswith(".lock"))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """100 pictures in two classes, and a place for caches."""
    for i in range(N):
        picture(tmp_path / "pictures" / ("ant", "bee")[i % 2] / f"{i:03}.png", i)
    return Folder(tmp_path / "pictures", tmp_path / "kept")


def same(a: Images, b: Images) -> bool:
    facts = a.labels.equal(b.labels) and a.class_names == b.class_names and a.flip == b.flip
    return facts and a.pixels.equal(b.pixels)


OPTIONS = [
    {},
    {"channels": 1, "crop": "none", "size": (5, 9)},
    {"split_seed": 3},
    {"val_fraction": 0.0},
    {"classes": 0},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_a_cache_gives_the_same_pixels_in_the_same_order(folder: Folder, options: dict[str, Any]) -> None:
    for _ in range(2):  # made, then reused
        for split in ("train", "val"):
            kept, plain = folder.load(split, **options), folder.plain(split, **options)
            assert same(kept, plain) and kept.shape == plain.shape and len(kept) == len(plain)
            assert [b.y.tolist() for b in kept.chunks(7)] == [b.y.tolist() for b in plain.chunks(7)]
            assert all(a.x.equal(b.x) for a, b in zip(kept.chunks(7), plain.chunks(7), strict=True))
            assert same(kept.take(5), plain.take(5))
            rows = torch.tensor([3, 0, 3])
            if len(plain):
                assert same(kept.subset(rows), plain.subset(rows))
                assert same(kept.subset(rows).subset(rows[1:2]), plain.subset(rows).subset(rows[1:2]))


def test_both_splits_share_one_cache_file(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    train, val = folder.load(), folder.load("val")
    assert train.mapped and val.mapped and train.mapped.path == val.mapped.path
    assert train.rows is not None and val.rows is not None
    assert sorted([*train.rows.tolist(), *val.rows.tolist()]) == list(range(N))
    assert len(folder.files(".npy")) == 1 and len(folder.files(".json")) == 1
    path = folder.files(".npy")[0]
    assert [m for m in caplog.messages if str(path) in m] == [
        m for m in caplog.messages if m.startswith(f"made the cache {path} (100 pictures")
    ]
    assert len(caplog.messages) == 1
    folder.load()
    assert caplog.messages[1].startswith(f"reused the cache {path}")
    assert np.load(path).shape == (N, 3, 8, 8)  # a plain .npy file


def test_each_size_has_its_own_cache(folder: Folder) -> None:
    folder.load()
    folder.load(size=6)
    assert len(folder.files(".npy")) == 2
    assert folder.load().shape == (3, 8, 8) and folder.load(size=6).shape == (3, 6, 6)
    assert len(folder.files(".npy")) == 2


def changed(root: Path) -> None:
    picture(root / "ant" / "000.png", 999)


def added(root: Path) -> None:
    picture(root / "bee" / "new.png", 999)


def removed(root: Path) -> None:
    (root / "ant" / "000.png").unlink()


def renamed(root: Path) -> None:
    (root / "ant" / "000.png").rename(root / "ant" / "zzz.png")


def touched(root: Path) -> None:
    file = root / "ant" / "000.png"
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))


def changed_with_old_size_and_time(root: Path) -> None:
    """Change one byte but keep the size and the modification time; only the hashed first bytes of the file differ."""
    file = root / "ant" / "000.png"
    before, data = file.stat(), bytearray(file.read_bytes())
    data[-20] ^= 255
    file.write_bytes(bytes(data))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("change", [changed, added, removed, renamed, touched])
def test_changed_pictures_are_decoded_again_and_replace_the_old_cache(
    folder: Folder, change: Callable[[Path], None]
) -> None:
    old = folder.load()
    before, (path,) = old.pixels.clone(), folder.files(".npy")
    change(folder.root)
    for split in ("train", "val"):
        assert same(folder.load(split), folder.plain(split))
    assert len(folder.files()) == 2 and folder.files(".npy") != [path]
    again = torch.cat(list(old.raw(10)))  # a run that uses the old cache can still read it
    assert again.equal(before)


def test_a_cache_is_for_files_of_the_same_size_and_time(tmp_path: Path) -> None:
    """Only the first bytes of some files are read; the others count by their sizes and times."""
    for i in range(40):
        picture(tmp_path / f"{i:02}.png", i)
    files = sorted(tmp_path.iterdir())
    stat = files[1].stat()
    keys = [PictureFiles(tmp_path, files, Decoder((8, 8), 3)).key()]
    for size, time in ((1, 0), (0, 1)):
        files[1].write_bytes(files[1].read_bytes() + bytes(size))
        os.utime(files[1], ns=(0, stat.st_mtime_ns + time))
        keys.append(PictureFiles(tmp_path, files, Decoder((8, 8), 3)).key())
    assert len(set(keys)) == 3 and len({key.place for key in keys}) == 1


def test_folders_whose_files_have_the_same_sizes_and_times_have_different_caches(folder: Folder) -> None:
    folder.load(skip_damaged=True)
    changed_with_old_size_and_time(folder.root)
    folder.load(skip_damaged=True)
    assert same(folder.load(skip_damaged=True), folder.plain(skip_damaged=True))


def test_a_folder_that_moved_finds_its_cache(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    before = folder.load()
    moved = Folder(folder.root.rename(folder.root.with_name("elsewhere")), folder.kept)
    assert same(moved.load(), before) and caplog.messages[-1].startswith("reused the cache")


def test_a_cache_that_moved_is_found(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    before = folder.load()
    shutil.move(folder.kept, folder.kept.with_name("other"))
    assert same(folder.load(cache=str(folder.kept.with_name("other"))), before)
    assert caplog.messages[-1].startswith("reused the cache")


def truncate(npy: Path, manifest: Path) -> None:
    os.truncate(npy, npy.stat().st_size - 1)


def spoil(npy: Path, manifest: Path) -> None:
    with npy.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(bytes([255 - npy.read_bytes()[-1]]))


def spoil_shape(npy: Path, manifest: Path) -> None:
    data = npy.read_bytes().replace(b"(100, 3, 8, 8)", b"(100, 8, 3, 8)")
    npy.write_bytes(data)


def spoil_manifest(npy: Path, manifest: Path) -> None:
    contents = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(contents | {"damaged": {"1": "made up"}}))


def cut_manifest(npy: Path, manifest: Path) -> None:
    manifest.write_text(manifest.read_text()[:40])


def lose_pictures(npy: Path, manifest: Path) -> None:
    npy.unlink()


@pytest.mark.parametrize("damage", [truncate, spoil, spoil_shape, spoil_manifest, cut_manifest, lose_pictures])
def test_a_damaged_cache_is_detected_and_made_again(
    folder: Folder, damage: Callable[[Path, Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    folder.load()
    damage(folder.files(".npy")[0], folder.files(".json")[0])
    assert same(folder.load(), folder.plain())
    (warning,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert "is invalid: " in warning and warning.endswith("decoding again")
    caplog.clear()
    folder.load()
    assert [m.split(" /")[0] for m in caplog.messages] == ["reused the cache"]


def test_a_cache_without_a_manifest_is_not_used(folder: Folder) -> None:
    folder.load()
    npy, manifest = folder.files(".npy")[0], folder.files(".json")[0]
    manifest.unlink()
    with npy.open("r+b") as file:
        file.write(b"?")
    assert same(folder.load(), folder.plain()) and manifest.exists()


PROGRAM = """
import logging, os, signal, sys
from ddpm_cli.data import parallel
from ddpm_cli.data.image_folder import ImageFolder
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
parallel.cores = lambda: 2
kill = (lambda *_: os.kill(os.getpid(), signal.SIGKILL)) if sys.argv[3] == "kill" else None
images = ImageFolder(root=sys.argv[1], size=8, val_fraction=0.2, cache=sys.argv[2]).load("train", kill)
print(int(images.pixels.long().sum()), flush=True)
"""


def start(folder: Folder, kill: bool = False) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-u", "-c", PROGRAM, str(folder.root), str(folder.kept), "kill" if kill else ""],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )


def test_two_concurrent_runs_make_the_cache_once(folder: Folder) -> None:
    folder.load()
    (path,) = folder.files(".npy")
    for file in folder.files():
        file.unlink()
    with FileLock(folder.kept / f".lock-{path.stem.split('-')[1][:2]}"):
        runs = [start(folder) for _ in range(2)]
        lines = [run.stdout.readline() for run in runs if run.stdout]
        assert all("another run is decoding" in line and "waiting for it" in line for line in lines)
    outputs = [run.communicate(timeout=600)[0].splitlines() for run in runs]
    assert sorted(lines[0].split(" /")[0] for lines in outputs) == ["made the cache", "reused the cache"]
    assert outputs[0][-1] == outputs[1][-1] == str(int(folder.plain().pixels.long().sum()))


@pytest.mark.skipif(os.name != "posix", reason="sends SIGKILL")
@pytest.mark.parametrize("then", [lambda root: None, added])
def test_the_leftovers_of_a_killed_run_are_removed(folder: Folder, then: Callable[[Path], None]) -> None:
    killed = start(folder, kill=True)
    killed.communicate(timeout=600)
    assert killed.returncode == -signal.SIGKILL
    assert [p.suffix for p in folder.kept.iterdir() if p.name.startswith(".lock-") is False] == [".part"]
    (part,) = folder.kept.glob(".*.part")
    with FileLock(folder.kept / f".lock-{part.name.split('-')[1][:2]}", timeout=600):
        pass  # its forks notice that it is gone and release the lock
    then(folder.root)
    assert same(folder.load(), folder.plain())
    assert not list(folder.kept.glob(".*.part")) and len(folder.files()) == 2


def test_a_cache_that_another_run_is_writing_is_left_alone(folder: Folder) -> None:
    folder.load()
    own = folder.files(".npy")[0].stem.split("-")[1][:2]
    for file in folder.files():
        file.unlink()
    mine, other = [folder.kept / f".{'0' * 12}-{c * 24}.part" for c in "abc" if c * 2 != own][:2]
    foreign = folder.kept / ".holiday.part"
    for part in (mine, other, foreign):
        part.touch()
    with FileLock(folder.kept / f".lock-{mine.stem[-2:]}"):
        folder.load()
    assert mine.exists() and foreign.exists() and not other.exists()


def under_a_file(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.kept.write_text("no folder")


def full(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 1000})()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)


def full_while_writing(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = cache_file._begin

    def onto_full(part: Path, shape: tuple[int, ...]) -> int:
        start = begin(part, shape)
        part.unlink()
        part.symlink_to("/dev/full")
        return start

    monkeypatch.setattr(cache_file, "_begin", onto_full)


def no_locks(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise NotImplementedError("no locks here")

    monkeypatch.setattr(cache_store.FileLock, "acquire", refuse)


@pytest.mark.parametrize("trouble", [under_a_file, full, full_while_writing, no_locks])
def test_pictures_that_cannot_be_cached_are_decoded_into_memory(
    folder: Folder,
    trouble: Callable[[Folder, pytest.MonkeyPatch], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if trouble is full_while_writing and not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    trouble(folder, monkeypatch)
    images = folder.load()
    assert images.mapped is None and same(images, folder.plain())
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("cannot cache the decoded pictures") and record.getMessage().count("\n") == 0
    assert not folder.kept.is_dir() or not folder.files()


def test_an_existing_cache_is_read_without_writing(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a read-only folder, which a test that runs as root cannot set up."""
    folder.load()
    before = sorted((p.name, p.stat().st_mtime_ns) for p in folder.kept.iterdir())
    monkeypatch.setattr(cache_store, "_lock", lambda *_: pytest.fail("locks"))
    assert folder.load().mapped
    assert sorted((p.name, p.stat().st_mtime_ns) for p in folder.kept.iterdir()) == before


def test_a_cache_is_never_inside_the_folder_of_pictures(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    inside = folder.root / "cache"
    with pytest.raises(
        ConfigError, match=r"^dataset\.cache: .* is inside the folder of pictures; choose another folder$"
    ):
        folder.load(cache=str(inside))
    monkeypatch.setenv("XDG_CACHE_HOME", str(inside))
    assert folder.load(cache=True).mapped is None and "inside the folder of pictures" in caplog.text
    assert not inside.exists()


def test_auto_caches_many_or_large_files(folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home" / "ddpm-cli" / "pictures"
    assert folder.load(cache="auto").mapped is None and not home.exists()
    monkeypatch.setattr(cache, "MANY", N)
    mapped = folder.load(cache="auto").mapped
    assert mapped and mapped.path.parent == home
    monkeypatch.setattr(cache, "MANY", N + 1)
    assert folder.load(cache="auto").mapped is None
    monkeypatch.setattr(cache, "LARGE", 1000)
    assert folder.load(cache="auto").mapped
    assert folder.load(cache=True).mapped and not folder.kept.exists()


def test_the_default_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")  # the XDG specification says to ignore relative paths
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert cache.folder_of(True) == tmp_path / "me" / ".cache" / "ddpm-cli" / "pictures"
    assert cache.folder_of("~/there") == tmp_path / "me" / "there"
    with pytest.raises(ValueError, match="^cache: "):
        ImageFolder(cache="")


def test_damaged_pictures_are_left_out_or_refused_as_without_a_cache(
    folder: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("ant/000.png", "bee/051.png"):
        (folder.root / name).write_text("no picture")
    for _ in range(2):
        for split in ("train", "val"):
            assert same(folder.load(split, skip_damaged=True), folder.plain(split, skip_damaged=True))
    assert len(folder.files(".npy")) == 1
    left_out = [m for m in caplog.messages if m.startswith("left out")]
    assert left_out and left_out[::2] == left_out[1::2]  # the same messages with and without a cache
    with pytest.raises(DataError) as kept:
        [folder.load(split) for split in ("train", "val")]
    with pytest.raises(DataError) as plain:
        [folder.plain(split) for split in ("train", "val")]
    assert str(kept.value) == str(plain.value)


def test_a_damaged_held_out_picture_does_not_stop_training(folder: Folder) -> None:
    held_out = folder.load("val").rows
    assert held_out is not None
    files = sorted(folder.root.rglob("*.png"))
    files[int(held_out[0])].write_text("no picture")
    assert same(folder.load(), folder.plain())
    with pytest.raises(DataError, match=f"{files[int(held_out[0])].name}: is not a readable picture"):
        folder.load("val")


def test_a_damaged_picture_leaves_no_cache(folder: Folder) -> None:
    (folder.root / "ant" / "000.png").write_text("no picture")
    (folder.root / "ant" / "002.png").write_text("no picture")
    with pytest.raises(DataError, match="is not a readable picture"):
        folder.load(val_fraction=0.0)
    assert not folder.files() and not list(folder.kept.glob(".*.part"))


def test_a_picture_that_becomes_readable_is_added(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(self: Decoder, files: Any, out: Any, first: int = 0) -> dict[int, str]:
        return {first: "Input/output error"}

    with monkeypatch.context() as broken:
        broken.setattr(Decoder, "block", fail)
        assert len(folder.load(val_fraction=0.0, skip_damaged=True)) == N - 4  # the first of each block
    assert same(folder.load(val_fraction=0.0, skip_damaged=True), folder.plain(val_fraction=0.0))
    assert "can be read now" in caplog.text and len(folder.files()) == 2


def test_a_killed_decoding_process_is_one_line(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("decodes by threads")
    me = os.getpid()

    def die(self: Decoder, *_: Any) -> dict[int, str]:
        assert os.getpid() != me
        os.kill(os.getpid(), signal.SIGKILL)
        return {}

    monkeypatch.setattr(Decoder, "block", die)
    with pytest.raises(DataError, match=r"^dataset: a process that decodes pictures was killed \(exit code -9\)"):
        folder.load()
    assert not list(folder.kept.glob(".*.part"))


def test_the_caches_of_celebas_splits_do_not_replace_each_other(tmp_path: Path) -> None:
    base = tmp_path / "celeba"
    for i in range(12):
        picture(base / "img_align_celeba" / f"{i:06}.png", i)
    lines = [f"{i:06}.png {0 if i < 8 else 2}" for i in range(12)]
    (base / "list_eval_partition.txt").write_text("\n".join(lines))
    kept = tmp_path / "kept"
    for _ in range(2):
        for split, fraction in (("train", None), ("test", None), ("train", 0.25), ("val", 0.25)):
            sources = [
                CelebA(root=str(tmp_path), size=4, val_fraction=fraction, download=False, cache=where)
                for where in (str(kept), False)
            ]
            one, other = (source.load(split) for source in sources)  # type: ignore[arg-type]
            assert one.mapped and same(one, other)
        assert len(list(kept.glob("*.npy"))) == 2


@pytest.mark.parametrize("at_once", [2**20, 0], ids=["small", "large"])
def test_no_damaged_picture_of_a_cache_is_ever_used(
    folder: Folder, at_once: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A large cache is not read as a whole when it is opened; then each picture is checked when it is first used."""
    monkeypatch.setattr(cache_file, "_AT_ONCE", at_once)
    monkeypatch.setattr(cache_file, "_CHECKED", 2)
    expected = folder.load().pixels
    (path,) = folder.files(".npy")
    for row in (1, 50, 98):
        raw = bytearray(path.read_bytes())
        raw[len(raw) - (N - row) * 3 * 8 * 8 + 17] ^= 1
        path.write_bytes(raw)
        uses: list[Callable[[Images], object]] = [
            lambda images: images.pixels,
            lambda images: list(images.raw(7)),
            lambda images: [batch for _, batch in zip(range(30), images.batches(8, 0), strict=False)],
        ]
        for use in uses:
            if at_once:
                break
            kept = folder.files(".json")[0].read_bytes()
            with pytest.raises(DataError, match=rf"picture {row} of the cache is damaged; run the same command again"):
                for split in ("train", "val"):  # it is one of them
                    use(folder.load(split))
            assert not folder.files(".json")  # it is not used again
            path.with_suffix(".json").write_bytes(kept)
        if not at_once:
            path.with_suffix(".json").unlink()
        assert folder.load().pixels.equal(expected)
    assert not at_once or caplog.text.count("is damaged; decoding again") == 3
