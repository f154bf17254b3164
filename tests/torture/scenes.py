"""Folders with everything that the program writes, as it is before a file of it is damaged, and what is typed then."""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from . import forked
from .cases import CASES, EVERY, SMALL, TINY, Case

FOLDER = ["dataset=image_folder", "dataset.root=pictures", "dataset.cache=cache", "dataset.size=8"]
CACHED = ["train", "run_dir=run", "trainer.steps=6", *SMALL, *EVERY, *TINY, *FOLDER]
DRAW = ["sampler.steps=2", "batch_size=2"]
KINDS = {
    "tensors": "run/checkpoints/*.safetensors",
    "manifest": "run/checkpoints/*.json",
    "config.json": "run/config.json",
    "metrics.jsonl": "run/metrics.jsonl",
    "data.json": "run/data.json",
    "pictures": "run/samples/*.png",
    "cache": "cache/*.npy",
    "manifest of a cache": "cache/*.json",
    "samples.npz": "out/samples.npz",
    "sample.json": "out/sample.json",
    "images of samples": "out/**/*.png",
    "kept samples": "out/.drawn/*.np?",
    "kept values": "out/.drawn/values/*.np?",
    "requests of kept files": "out/.drawn/**/request.json",
    "eval.json": "judged/eval.json",
    "GIF": "out/*.gif",
}
"""What is damaged -> where it lies."""
KEPT = ("kept samples", "requests of kept files", "images of samples")
LOOKED_AT = {"pictures", "images of samples", "GIF"}
"""Files for people: no command reads them, so damage stays, and changes nothing else."""


@dataclass(frozen=True)
class Use:
    """A command, and the folder that it writes; "" = what it prints is its result."""

    command: list[str]
    result: str = ""


@dataclass
class Scene:
    """
    Args:
        start: the folder before the damage.
        spare: a folder of the same files in other versions: `spare/older` of this run, `spare/other` of another one.
    """

    name: str
    start: Path
    spare: Path
    kinds: Sequence[str]
    uses: Sequence[Use]

    def files(self, kind: str) -> list[str]:
        found = (p for p in sorted(self.start.glob(KINDS[kind])) if p.is_file())
        return [str(p.relative_to(self.start)) for p in found]


def _run(place: Path, *commands: Sequence[str]) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    for command in commands:
        ended = forked.run(place, command)
        assert ended.code == 0, (command, ended.err)
    return place


def _half(run: Path) -> None:
    """As if the process had been killed before its last checkpoint was valid."""
    newest = max((run / "checkpoints").glob("*.json"))
    for path in (newest, newest.with_suffix(".safetensors")):
        path.unlink()


def _training(folder: Path, case: Case, half: bool) -> Scene:
    """A run of a family, and the commands that read it."""
    readers = [Use(["verify", "ckpt=run"])]
    if case.name == "classifier":
        readers.append(Use(["table", "of=[run]"]))
    else:
        readers.append(
            Use(["sample", "ckpt=run", "out=out", "n=2", *(DRAW if case.name == "diffusion" else [])], "out")
        )
    if case.name == "diffusion":
        readers += [Use(CASES[name].command, "out") for name in ("eval", "gif")]
    best = ["trainer.best_by=val_loss"] if case.name == "classifier" else []
    command = [*case.command, *best]
    start, spare = folder / "start", folder / "spare"
    _run(start, command)
    _run(spare / "other", [*command, "seed=1"])
    fewer = f"trainer.steps={2 if case.name == 'mixture' else 4}"
    _run(spare / "older", [fewer if a.startswith("trainer.steps=") else a for a in command])
    if half:
        _half(start / "run")
    uses = [Use(command, "run")] * (len(readers) + 1) + ([] if half else readers)
    kinds = ("tensors", "manifest", "config.json", "metrics.jsonl", "data.json", "pictures")
    return Scene(f"{case.name}, {'half done' if half else 'finished'}", start, spare, kinds, uses)


def _cache(folder: Path) -> Scene:
    """A run that goes on from a folder of pictures with a cache."""
    start, spare = folder / "start", folder / "spare"
    for place, shade in ((start, 0), (spare / "older", 1), (spare / "other", 2)):
        _pictures(place / "pictures", shade)
        _run(place, CACHED)
        for path in (place / "cache").glob("*-*.*"):  # under the names of the first, as if they were its own
            path.rename(path.with_name(f"{_stem(start)}{path.suffix}"))
    _half(start / "run")
    return Scene(
        "folder of pictures", start, spare, ("cache", "manifest of a cache", "data.json"), [Use(CACHED, "run")]
    )


def _stem(start: Path) -> str:
    return next((start / "cache").glob("*-*.npy")).stem


def _pictures(folder: Path, shade: int) -> None:
    folder.mkdir(parents=True)
    for i in range(400):
        pixels = np.random.default_rng((shade, i)).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:03}.png")


def _drawn(folder: Path) -> Scene:
    """A folder of `ddpm sample`, drawn again and evaluated."""
    start, spare = folder / "start", folder / "spare"
    command = CASES["sample"].command
    _run(start, CASES["diffusion"].command, command)
    for place, change in (("older", "sampler.steps=1"), ("other", "seed=5")):
        shutil.copytree(start / "run", spare / place / "run")
        _run(spare / place, [*command[:-1], change] if "steps" in change else [*command, change])
    judge = ["eval", "samples=out", "ckpt=run", "out=judged", "metrics=[memorisation]"]
    kinds = ("samples.npz", "sample.json", "images of samples")
    return Scene("samples", start, spare, kinds, [Use(command, "out"), *[Use(judge, "judged")] * 3])


def _stopped(folder: Path, name: str, sign: str, kinds: Sequence[str]) -> Scene:
    """A command that was killed when it had kept some batches, to be continued."""
    start, spare, case = folder / "start", folder / "spare", CASES[name]
    _run(start, CASES["diffusion"].command)
    command = [a.replace("n=6", "n=12") for a in case.command]
    places = (start, command), (spare / "older", [*command, "weights=raw"]), (spare / "other", [*command, "seed=5"])
    for place, line in places:
        if place != start:
            shutil.copytree(start / "run", place / "run")
        child = forked.Child(place, line)
        deadline = time.monotonic() + 30
        while len(list(place.glob(sign))) < 3 and time.monotonic() < deadline:
            time.sleep(0.001)
        child.signal(9)
        assert child.wait().code == -9, f"{line} was too fast"
    return Scene(f"{name}, killed", start, spare, kinds, [Use(command, "out")])


def _judged(folder: Path) -> Scene:
    """An evaluation in a table."""
    start, spare = folder / "start", folder / "spare"
    command = [a.replace("out=out", "out=judged") for a in CASES["eval"].command]
    _run(start, CASES["diffusion"].command, command)
    return Scene("evaluation", start, spare, ("eval.json",), [Use(["table", "of=[judged]"])])


def _animated(folder: Path) -> Scene:
    start, spare = folder / "start", folder / "spare"
    command = CASES["gif"].command
    _run(start, CASES["diffusion"].command, command)
    for place, change in (("older", "seed=3"), ("other", "seed=5")):
        shutil.copytree(start / "run", spare / place / "run")
        _run(spare / place, [*command, change])
    return Scene("animation", start, spare, ("GIF",), [Use(command, "out")])


def _kept(folder: Path) -> Scene:
    return _stopped(folder, "sample", "out/.drawn/*.npy", KEPT)


def _values(folder: Path) -> Scene:
    return _stopped(folder, "eval", "out/.drawn/values/*.npz", ("kept values", *KEPT[:2]))


MAKERS: dict[str, Callable[[Path], Scene]] = {
    f"{name}, {'half done' if half else 'finished'}": partial(_training, case=CASES[name], half=half)
    for name in ("diffusion", "autoencoder", "mixture", "classifier")
    for half in (False, True)
} | {
    "folder of pictures": _cache,
    "samples": _drawn,
    "evaluation": _judged,
    "animation": _animated,
    "sample, killed": _kept,
    "eval, killed": _values,
}
"""Name -> what makes the scene in an empty folder."""
