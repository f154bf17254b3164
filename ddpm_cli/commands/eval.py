"""ddpm eval."""

import time
from pathlib import Path
from typing import Any, Literal

from .. import console
from ..build import Node, bind
from ..data.source import Split
from ..errors import ConfigError
from ..evaluation.accuracy import class_rows
from ..evaluation.bits import Bits, BitsOptions
from ..evaluation.case import Options
from ..evaluation.evaluate import Asked, Found, evaluate
from ..evaluation.finding import table_rows
from ..evaluation.latent_bits import ROWS as LATENT_ROWS
from ..evaluation.report import Report
from ..evaluation.subject import chosen, subject_of
from ..files import shown
from ..hardware.options import Precision
from ..runs.assemble import check_positive, check_seed, without
from ..sampling.generator import Prior

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
    sampler: Node,
    guidance: Node,
    ckpt: str | None,
    samples: str | None,
    features: str | None,
    metrics: list[str] | str,
    split: Split,
    n: int | Literal["auto"] | None,
    real: int | None,
    batch_size: int,
    seed: int,
    prior: Prior,
    root: str | None,
    resamples: int,
    neighbours: int,
    cas: Node,
    bpd: Node,
    weights: Literal["ema", "raw"],
    device: str,
    precision: Precision,
    tensorboard: bool,
    out: str,
    trust: list[str],
    debug: bool,
) -> None:
    """Judge a checkpoint, or samples, into `folder`."""
    check_seed(seed)
    check_positive(**{k: v for k, v in (("n", n), ("real", real), ("batch_size", batch_size)) if isinstance(v, int)})
    options, bits = _options(resamples, neighbours, cas), _bits(bpd)
    report, began = Report(folder), time.perf_counter()
    subject = subject_of(ckpt, samples, features, weights, device, precision, trust)
    asked = Asked(
        subject, chosen(metrics, subject, samples is not None), split, root, n, real, batch_size, seed,
        samples, sampler, guidance, prior, trust, options, bits,
    )  # fmt: skip
    drawer = subject.generator
    used = drawer.used(config) if drawer is not None else without(config, ("prior", "sampler", "guidance"))
    with console.Counter() as progress:
        found = evaluate(asked, progress, lambda: console.show_config(used, f"ddpm eval: {shown(folder)}"))
    seconds = time.perf_counter() - began
    report.write(found.content(round(seconds, 3)), found.pictures)
    if tensorboard:
        report.write_scalars(found.scalars, int(subject.facts.get("checkpoint_step", 0)))
    _tell(found, split)
    console.note(f"{seconds:.1f} s: {report.said()} in {shown(folder)}")


def _options(resamples: int, neighbours: int, cas: Node) -> Options:
    steps = {**bind(_steps, cas, "cas")}
    try:
        return Options(resamples, neighbours, steps["steps"])
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _steps(steps: int) -> None:
    """The keys below `cas`."""


def _bits(bpd: Node) -> BitsOptions:
    try:
        return BitsOptions(**bind(BitsOptions, bpd, "bpd"))
    except ValueError as error:
        raise ConfigError(f"bpd.{error}") from error


def _tell(found: Found, split: Split) -> None:
    """The tables."""
    if found.bits is not None:
        title = f"bits/dim of {found.images} {split} images"
        console.table(title, ["", "bits/dim", "standard error"], _bits_rows(found.bits))
    if found.findings:
        columns = ["", "value", "spread", "real images"]
        rows = table_rows(found.findings)
        drop = not any(row[-1] for row in rows)
        console.table(found.title, columns[:-1] if drop else columns, [row[:-1] if drop else row for row in rows])
        if not drop:
            console.note("real images: the same figure of real images in place of the samples, what to hope for")
    for finding in found.findings.values():
        if finding.note:
            console.note(finding.note)
    if accuracy := found.findings.get("accuracy"):
        console.table("classes", ["", "images", "right", "most often taken for"], class_rows(accuracy))


def _bits_rows(bits: Bits) -> list[list[str]]:
    names = ROWS if "bound" in bits.figures else LATENT_ROWS
    return [
        [names[name], f"{figure.mean:.4f}", "" if figure.error is None else f"{figure.error:.4f}"]
        for name, figure in bits.figures.items()
    ]
