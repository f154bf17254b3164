"""ddpm eval."""

import time
from pathlib import Path
from typing import Any, Literal

from .. import console
from ..build import Node, bind
from ..data.source import Split
from ..errors import ConfigError
from ..files import write_json
from ..render.plot_bound import plot_bound
from ..training.plan import Precision
from .assemble import check_positive, check_seed, shown
from .direct import Direct, open_run
from .held_out import held_out
from .latent_bits import ROWS as LATENT_ROWS
from .latent_bits import LatentJudge
from .measure import Bits, BitsOptions, Judge

FILES = {"eval.json", "bound.png"}
METRICS = ("bpd",)
ROWS = {
    "bound": "variational bound",
    "prior": "  L_T, prior",
    "denoising": "  sum of L_t-1, denoising",
    "reconstruction": "  L_0, reconstruction",
    "ode": "probability-flow ODE",
}


def run(
    config: dict[str, Any],
    folder: Path,
    *,
    ckpt: str,
    metrics: list[str],
    split: Split,
    n: int | None,
    batch_size: int,
    seed: int,
    root: str | None,
    bpd: Node,
    weights: Literal["ema", "raw"],
    device: str,
    precision: Precision,
    out: str,
    trust: list[str],
    debug: bool,
) -> None:
    """Judge a checkpoint by `n` real images, into `folder`."""
    check_seed(seed)
    check_positive(n=1 if n is None else n, batch_size=batch_size)
    _check(metrics, folder)
    options = _options(bpd)
    loaded = open_run(ckpt, weights, device, precision, trust)
    judge = LatentJudge(loaded, options, seed) if isinstance(loaded, Direct) else Judge(loaded, options, seed)
    console.show_config(config, f"ddpm eval: {shown(folder)}")
    began = time.perf_counter()
    with console.Counter() as progress:
        images = held_out(loaded, root, split, n, seed, progress)
        bits = judge(images, batch_size, progress)
    seconds = time.perf_counter() - began
    about = {"split": split, "n": len(images), "batch_size": batch_size, "seed": seed, "seconds": round(seconds, 3)}
    _write(folder, bits, {**loaded.facts(), **about, "bpd": judge.protocol(len(images), batch_size)})
    console.table(f"bits/dim of {len(images)} {split} images", ["", "bits/dim", "standard error"], _rows(bits))
    console.note(
        f"{len(images)} images in {seconds:.1f} s: {shown(folder)}/eval.json{', bound.png' if len(bits.times) else ''}"
    )


def _check(metrics: list[str], folder: Path) -> None:
    """Raises ConfigError for a metric that is not there, for none, and where `out` holds other files."""
    for metric in metrics or ["nothing"]:
        if metric not in METRICS:
            raise ConfigError(f"metrics: there is no {metric!r}; allowed: [{', '.join(METRICS)}]")
    if folder.is_dir() and any(p.name not in FILES for p in folder.iterdir()):
        raise ConfigError(f"out: {folder} has other files; name an empty or a new folder")


def _options(bpd: Node) -> BitsOptions:
    try:
        return BitsOptions(**bind(BitsOptions, bpd, "bpd"))
    except ValueError as error:
        raise ConfigError(f"bpd.{error}") from error


def _write(folder: Path, bits: Bits, protocol: dict[str, Any]) -> None:
    """bound.png and, last of all, eval.json: with it, all is there."""
    facts = folder / "eval.json"
    facts.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bound.png").unlink(missing_ok=True)
    figures = {name: figure._asdict() for name, figure in bits.figures.items()}
    if len(bits.times):
        plot_bound(folder / "bound.png", bits.times, bits.each, {k: f.mean for k, f in bits.figures.items()})
    per_time = {"t": bits.times.tolist(), "bits": bits.each.tolist()}
    write_json(facts, {"bits_per_dim": figures, "per_time": per_time, "protocol": protocol})


def _rows(bits: Bits) -> list[list[str]]:
    return [
        [(ROWS | LATENT_ROWS)[name], f"{figure.mean:.4f}", "" if figure.error is None else f"{figure.error:.4f}"]
        for name, figure in bits.figures.items()
    ]
