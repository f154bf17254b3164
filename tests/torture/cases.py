"""The commands that are tortured, and what must be true of the folder that they leave."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ddpm_cli.runs import checkpoint

from . import forked

SMALL = ["trainer.batch_size=4", "trainer.samples=2", "trainer.eval_images=4", "trainer.device=cpu"]
EVERY = [f"trainer.{what}_every=2" for what in ("log", "save", "sample", "eval")]
TINY = ["model=unet_tiny", "model.channels=8", "model.multipliers=[1]", "sampler.steps=2"]
PRIOR = ["model.latent=2", "model.prior_components=2"]
TRAIN = ["train", "run_dir=run", "trainer.steps=6", *SMALL, *EVERY]


@dataclass(frozen=True)
class Case:
    """
    Args:
        command: what is typed.
        before: what is typed first, and not tortured.
        result: the folder it writes.
        pictures: so many lie in a folder `pictures`.
    """

    name: str
    command: list[str]
    before: tuple[list[str], ...] = ()
    result: str = "run"
    pictures: int = 0

    def prepare(self, folder: Path) -> None:
        """Make what the command starts from."""
        if self.pictures:
            _make_pictures(folder / "pictures", self.pictures)
        for command in self.before:
            ended = forked.run(folder, command)
            assert ended.code == 0, ended.err


def _make_pictures(folder: Path, n: int) -> None:
    folder.mkdir()
    g = np.random.default_rng(0)
    for i in range(n):
        Image.fromarray(g.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / f"{i}.png")


FOLDER = ["dataset=image_folder", "dataset.root=pictures", "dataset.size=8", "dataset.cache=cache"]
DIFFUSION = [*TRAIN, *TINY, "trainer.best_by=val_loss"]
SAMPLE = ["sample", "ckpt=run", "out=out", "n=6", "batch_size=2", "sampler.steps=2"]
EVAL = [
    "eval", "ckpt=run", "out=out", "n=6", "batch_size=2", "metrics=[memorisation,bpd]", "bpd.steps=2",
    "bpd.ode_steps=1", "sampler.steps=2",
]  # fmt: skip
CASES = {
    case.name: case
    for case in (
        Case("diffusion", DIFFUSION),
        Case("autoencoder", [*TRAIN, "model=vae_conv", "model.channels=4", "model.multipliers=[1]", *PRIOR]),
        Case("mixture", ["train", "run_dir=run", "trainer.steps=4", *EVERY[:2], "model=gmm"]),
        Case("classifier", [*TRAIN, "model=resnet", "model.channels=8"]),
        Case("sample", SAMPLE, (DIFFUSION,), "out"),
        Case("eval", EVAL, (DIFFUSION,), "out"),
        Case("gif", ["gif", "ckpt=run", "out=out/x.gif", "n=2", "frames=3", "sampler.steps=2"], (DIFFUSION,), "out"),
        Case("cache", [*TRAIN, *TINY, *FOLDER], result=".", pictures=12),
        Case("table", ["table", "of=[out]", "out=table"], (DIFFUSION, EVAL), "table"),
    )
}  # fmt: skip


def content(folder: Path) -> dict[str, bytes | str]:
    """What must be equal at the end: each file by its name, times and clock readings left out."""
    return {_name(path, folder): content_of(path) for path in compared(folder)}


def _name(path: Path, folder: Path) -> str:
    name = str(path.relative_to(folder))
    return name.partition("-")[2] if name.startswith("cache/") else name  # it begins with where the pictures lie


def compared(folder: Path) -> list[Path]:
    """The files of a folder whose content can be compared."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock")
    return [path for path in files if "tfevents" not in path.name and path.suffix != ".log"]


def content_of(path: Path) -> bytes | str:
    """What must be equal of one file. Raises OSError, ValueError or KeyError if it cannot be read."""
    if path.suffix == ".json":
        return _facts(path)
    if path.suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        return str([(row["step"], row.get("loss"), row.get("val_loss")) for row in rows])
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return b"".join(arrays[key].tobytes() for key in arrays.files)
    return path.read_bytes()


CLOCK = {"seconds", "created", "digest", "size", "sha256", "images_per_second", "folder", "best", "period", "lead"}
CLOCK |= {"checkpoint_sha256", "run_dir", "rows", "stem", "root", "made"}


def _facts(path: Path) -> str:
    def still(node: object) -> object:
        if isinstance(node, Mapping):
            return {k: still(v) for k, v in node.items() if k not in CLOCK}
        return node

    return json.dumps(still(json.loads(path.read_text())), sort_keys=True)


def problem(folder: Path, expected: Mapping[str, bytes | str]) -> str:
    """How the content of `folder` differs; "" if it does not."""
    try:
        found = content(folder)
    except (OSError, ValueError, KeyError) as error:
        return f"unreadable: {error!r}"
    if found.keys() != expected.keys():
        return f"files differ: {sorted(found.keys() ^ expected.keys())}"
    different = [name for name in found if found[name] != expected[name]]
    return f"contents differ: {different}" if different else ""


def readable(folder: Path) -> str:
    """Whether a reader finds a valid state between a kill and the next start; "" if it does."""
    try:
        checkpoint.latest(folder / "run/checkpoints")
    except Exception as error:
        return f"between: {error!r}"
    return ""
