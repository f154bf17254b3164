"""How fast pictures reach the network: decoding a folder, reading it again, memory, and waiting in a training loop.

    python benchmarks/data.py --out docs/data          # writes docs/data.md and docs/data.json

The folder is made here: small JPEGs of smooth random colours, for which everything around Pillow weighs most. All its
files are in the system's page cache, so that processors are measured and not a disk. Decoding takes turns with Pillow
alone, which is a pool of as many processes that do the same to each file and keep nothing.
"""

import argparse
import gc
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from composed import Composed, random_images
from peers import installed, machine
from PIL import Image, ImageOps

from ddpm_cli.data.feed import prefetched
from ddpm_cli.data.image_folder import ImageFolder
from ddpm_cli.data.images import Batch, Images
from ddpm_cli.data.mapped import Mapped
from ddpm_cli.data.parallel import cores

SIDE, BATCH = 64, 64
DISK, THREAD = "folder, read from the disk", "60,000 in memory, read ahead by a thread (the program does not do this)"


def make_folder(root: Path, n: int) -> None:
    """`n` JPEGs of 64x64 pixels, a thousand to a folder."""
    generator = np.random.default_rng(0)
    for i in range(n):
        path = root / f"{i // 1000:03}" / f"{i:06}.jpg"
        if i % 1000 == 0:
            path.parent.mkdir(parents=True)
        coarse = Image.fromarray(generator.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(path, quality=90)


def bare(path: Path) -> None:
    """The calls of Pillow that any program needs for the same pixels."""
    with Image.open(path) as image:
        image.draft(None, (2 * SIDE, 2 * SIDE))
        image.load()
        upright = ImageOps.exif_transpose(image).convert("RGB")
        if upright.size != (SIDE, SIDE):
            upright = ImageOps.fit(upright, (SIDE, SIDE), Image.Resampling.LANCZOS)
        np.asarray(upright).transpose(2, 0, 1)


def bare_block(paths: list[Path]) -> None:
    for path in paths:
        bare(path)


def decoding(root: Path, kept: Path, rounds: int) -> dict[str, Any]:
    """Pictures/s: Pillow alone, a cache until its last picture, and until it is on disk and checked."""
    files = sorted(root.rglob("*.jpg"))
    blocks = [files[i : i + 32] for i in range(0, len(files), 32)]
    found: dict[str, list[float]] = {"Pillow alone": [], "cache, decoding only": [], "cache, everything": []}
    with multiprocessing.get_context("fork").Pool(cores()) as pool:
        pool.map(bare_block, blocks[: 4 * cores()])  # warm
        for _ in range(rounds):
            began = time.perf_counter()
            pool.map(bare_block, blocks, chunksize=1)
            found["Pillow alone"].append(len(files) / (time.perf_counter() - began))
            first, last = [], []

            def progress(what: str, done: int, total: int, first: list[Any] = first, last: list[Any] = last) -> None:
                last[:] = [(time.perf_counter(), done)]
                first or first.append(last[0])

            empty(kept)
            began = time.perf_counter()
            ImageFolder(root=str(root), size=SIDE, cache=str(kept)).load("train", progress)
            found["cache, everything"].append(len(files) / (time.perf_counter() - began))
            done, seconds = last[0][1] - first[0][1], last[0][0] - first[0][0]
            found["cache, decoding only"].append(done / seconds)
    shares = [b / a for a, b in zip(found["Pillow alone"], found["cache, decoding only"], strict=True)]
    return {"pictures_per_second": found, "decoding_share": statistics.median(shares)}


def empty(kept: Path) -> None:
    for path in kept.glob("*.*") if kept.exists() else ():
        path.unlink()


def second_start(root: Path, kept: Path, reply: Any) -> None:
    """In a process of its own: seconds until both parts of the split are loaded and the first batch is ready."""
    began, worked = time.perf_counter(), time.process_time()
    source = ImageFolder(root=str(root), size=SIDE, cache=str(kept))
    images, _ = source.load("train"), source.load("val")
    next(images.batches(BATCH, 0))
    assert images.mapped is not None
    reply.put({"seconds": time.perf_counter() - began, "processor_seconds": time.process_time() - worked})


def memory(path: Path | None, n: int, reply: Any) -> None:
    """In a process of its own: resident memory before, and the most while an epoch of batches is drawn.

    total counts pages of the mapped file, which belong to the system's cache and may go at any time; anonymous is
    this process's own.
    """
    torch.set_num_threads(1)
    next(Images(torch.zeros(BATCH, 3, SIDE, SIDE, dtype=torch.uint8), torch.zeros(BATCH).long(), ()).batches(BATCH, 0))
    before = status()
    if path is None:
        generator = np.random.default_rng(0)
        stored = torch.empty(n, 3, SIDE, SIDE, dtype=torch.uint8)
        for part in stored.split(1000):
            part.copy_(torch.from_numpy(generator.integers(0, 256, tuple(part.shape), dtype=np.uint8)))
        images = Images(stored, torch.zeros(n, dtype=torch.int64), (), flip=True)
    else:
        file = Mapped(path)
        images = Images(file.pixels, torch.zeros(n, dtype=torch.int64), (), True, torch.arange(n), file)
    most, batches = before, images.batches(BATCH, 0)
    for k in range(-(-n // BATCH)):
        next(batches)
        if k % 8 == 0:
            most = {name: max(value, most[name]) for name, value in status().items()}
    reply.put({"before": before, "most": most})


def status() -> dict[str, float]:
    """MiB of this process: all that is resident, and the part of it that belongs to no file."""
    rows = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {name: int(rows[key].split()[0]) / 1024 for name, key in (("total", "VmRSS"), ("anonymous", "RssAnon"))}


def write_array(path: Path, n: int) -> None:
    array = np.lib.format.open_memmap(path, "w+", np.uint8, (n, 3, SIDE, SIDE))
    generator = np.random.default_rng(0)
    for first in range(0, n, 1000):
        array[first : first + 1000] = generator.integers(0, 256, array[first : first + 1000].shape, dtype=np.uint8)


def alone(work: Callable[..., None], *arguments: Any) -> Any:
    """What `work` replies in a fresh process."""
    context = multiprocessing.get_context("spawn")
    reply = context.Queue()
    process = context.Process(target=work, args=(*arguments, reply))
    process.start()
    answer = reply.get(timeout=600)
    process.join()
    return answer


def stepper(device: str) -> Callable[[Batch], None]:
    """One optimizer step of what `ddpm train dataset=fashion_mnist trainer.batch_size=64` runs."""
    overrides = ["dataset=fashion_mnist", f"trainer.batch_size={BATCH}", f"trainer.device={device}"]
    composed = Composed(overrides)
    training = composed.training()

    def step(batch: Batch) -> None:
        training.step(batch)
        composed.spec.runtime.synchronize()

    return step


def waiting(root: Path, kept: Path, device: str, steps: int, windows: int) -> dict[str, Any]:
    """Shares of the time that the loop waits for its next batch, for each source in turn."""
    folder = ImageFolder(root=str(root), size=28, channels=1, classes=0, cache=str(kept)).load("train")
    assert folder.mapped is not None
    memory = random_images(60_000, 1, 28, flip=True)
    step, where = stepper(device), torch.device(device)
    sources = {"60,000 in memory": memory, THREAD: memory, "folder": folder, DISK: folder}
    shares: dict[str, list[float]] = {name: [] for name in sources}
    seconds: dict[str, list[float]] = {name: [] for name in sources}
    for window in range(windows + 1):
        for name, images in sources.items():
            batches = images.batches(BATCH, window, 0, where)
            if name == THREAD:
                batches = prefetched(batches)
            step(next(batches))  # an epoch's first batch shuffles it, once in hundreds of steps
            if name == DISK:
                forget(folder.mapped)
            waited, began = run(step, batches, steps)
            if window:
                shares[name].append(waited / (time.perf_counter() - began))
                seconds[name].append((time.perf_counter() - began) / steps)
            del batches
            gc.collect()
    return {"shares": shares, "step_seconds": seconds}


def run(step: Callable[[Batch], None], batches: Iterator[Batch], steps: int) -> tuple[float, float]:
    began, waited = time.perf_counter(), 0.0
    for _ in range(steps):
        since = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - since
        step(batch)
    return waited, began


def forget(file: Mapped) -> None:
    """Drop the file from the page cache, so that the disk is read."""
    file.release()
    with file.path.open("rb") as opened:
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def text_of(about: dict[str, Any], found: dict[str, Any], n: int) -> str:
    rates = found["decoding"]["pictures_per_second"]
    base = statistics.median(rates["Pillow alone"])
    lines = [
        "# Speed of reading a folder of pictures",
        f"{about['date']}, {about['machine']}; {', '.join(about['versions'])}.\n\n`{about['command']}`",
        f"A folder of {n:,} JPEGs of {SIDE}x{SIDE} pixels, decoded on {cores()} cores, measured in turn:",
        "| | pictures/s, median [slowest, fastest] | relative to Pillow alone |\n|---|---:|---:|\n"
        + "\n".join(
            f"| {name} | {statistics.median(r):,.0f} [{min(r):,.0f}, {max(r):,.0f}] "
            f"| {statistics.median(r) / base:.0%} |"
            for name, r in rates.items()
        ),
        f"Decoding relative to Pillow alone in the same round, median: {found['decoding']['decoding_share']:.0%}. "
        "*Everything* lists the folder, makes the key, decodes, waits for the disk and checks the result.",
        f"A second start takes {found['second_start']['seconds']:.2f} s up to the first batch, without the imports "
        f"({found['second_start']['processor_seconds']:.2f} s of processor time).",
        "Resident memory of a process that reads an epoch of batches, in MiB. The total includes the mapped file's "
        "pages, which belong to the system's cache and not to this process; anonymous memory does not:",
        "| pictures | | total before | total, most | anonymous before | anonymous, most |\n"
        "|---:|---|---:|---:|---:|---:|\n"
        + "\n".join(
            f"| {row['n']:,} | {row['kind']} | {row['before']['total']:.0f} | {row['most']['total']:.0f} "
            f"| {row['before']['anonymous']:.0f} | {row['most']['anonymous']:.0f} |"
            for row in found["memory"]
        ),
        f"Waiting for data while the network of `dataset=fashion_mnist` trains with batches of {BATCH}, "
        "windows in turn:",
        "| pictures | share of the time, median | most | ms per step, median |\n|---|---:|---:|---:|\n"
        + "\n".join(
            f"| {name} | {statistics.median(s):.2%} | {max(s):.2%} "
            f"| {statistics.median(found['waiting']['step_seconds'][name]) * 1000:.1f} |"
            for name, s in found["waiting"]["shares"].items()
        ),
    ]
    return "\n\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5, help="of decoding")
    parser.add_argument("--memory", type=int, nargs="*", default=[10_000, 100_000], help="pictures in the mapped file")
    parser.add_argument("--steps", type=int, default=30, help="training steps of a window")
    parser.add_argument("--windows", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=Path("outputs/data"))
    options = parser.parse_args()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="ddpm-data-") as temporary:
        root, kept = Path(temporary) / "pictures", Path(temporary) / "kept"
        print(f"making {options.images:,} pictures", file=sys.stderr)
        make_folder(root, options.images)
        found["decoding"] = decoding(root, kept, options.rounds)
        print(found["decoding"], file=sys.stderr)
        found["second_start"] = alone(second_start, root, kept)
        found["memory"] = []
        for n in options.memory:
            path = Path(temporary) / "x.npy"
            write_array(path, n)
            for kind, where in (("mapped", path), ("in memory", None)):
                found["memory"].append({"n": n, "kind": kind, **alone(memory, where, n)})
                print(found["memory"][-1], file=sys.stderr)
            path.unlink()
        found["waiting"] = waiting(root, kept, options.device, options.steps, options.windows)
    about = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(options.device),
        "versions": [installed(p) for p in ("ddpm-cli", "torch", "pillow", "numpy")],
        "command": "python benchmarks/data.py " + " ".join(sys.argv[1:]),
    }
    text = text_of(about, found, options.images)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.with_suffix(".json").write_text(json.dumps({**about, **found}, indent=1) + "\n")
    options.out.with_suffix(".md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
