"""Train, sample, animate and evaluate diffusion models from composed YAML.

    import ddpm_cli

    run = ddpm_cli.load("outputs/latest")
    run.sample(n=16, label=3, seed=0).save("out")

Importing this package does not import torch; calling a function does.
"""

import os
import sys

if sys.argv[:1] == ["-m"] and not sys.flags.safe_path:  # `python -m ddpm_cli`, before anything else is imported
    # files in the working directory are the user's data, not modules
    _here = sys.path.pop(0)
    if os.path.samefile(os.path.dirname(os.path.dirname(__file__)), _here or os.curdir):  # noqa: PTH120, PTH121
        sys.path.append(_here)  # a checkout that is not installed

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .hardware.options import Precision
    from .runs.load import Weights
    from .sampling.classifier import LoadedClassifier
    from .sampling.generator import Generator

__all__ = ["load", "train"]


def load(
    ckpt: str | Path = "outputs/latest",
    *,
    weights: "Weights" = "ema",
    device: str = "auto",
    precision: "Precision" = "auto",
    trust: Sequence[str] = (),
) -> "Generator | LoadedClassifier":
    """Open a run, as `ddpm sample`, `gif` and `eval` do.

    Args:
        ckpt: a run directory, a checkpoints directory or one file.
        weights: ema or raw; ema falls back to the last weights if the run keeps no average.
        device: auto, cpu, cuda, cuda:1 or mps.
        precision: auto, fp32, tf32 or bf16; auto is bf16 if the hardware supports it.
        trust: your own packages whose classes the checkpoint may name.

    Returns:
        A `Generator` (`.sample`, `.frames`, `.animate`, `.bits`), or a `LoadedClassifier` (`.probabilities`).

    Raises:
        CheckpointError: it is missing or damaged.
        ConfigError: the device does not exist, or a package is not trusted.
    """
    from .runs.load import load as load_run

    return load_run(str(ckpt), weights=weights, device=device, precision=precision, trust=trust)  # type: ignore[return-value]


def train(overrides: Sequence[str] = ()) -> "Generator | LoadedClassifier":
    """Train as `ddpm train` with these overrides, then open the run.

    Raises:
        DdpmError: any error, as one line.
        Stopped: a KeyboardInterrupt; the run is saved, and the same call resumes it if `run_dir` is set.
    """
    from .config.launch import call

    job = call("train", overrides)
    device = job.config["trainer"]["device"]
    return load(job.folder, device=device, trust=tuple(job.packages))  # these packages have just been used
