"""Where a run starts: from scratch, from its newest checkpoint, or from another run's."""

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, ConfigError
from ..files import shown
from . import checkpoint
from .checkpoint import Checkpoint
from .newest import followed
from .stored import mark_saved, was_saved

log = logging.getLogger(__name__)

# Every key of a config is in one of the three tuples, the longest name that fits it decides.
# identity: these give the tensors their meaning, so a checkpoint with other values cannot be resumed
FIXED = ("model", "schedule", "objective", "optimizer._target_")
# adjustable: taken, and logged, because they change what the next step computes
ADJUSTABLE = (
    "seed", "optimizer", "dataset", "trainer.steps", "trainer.epochs", "trainer.batch_size", "trainer.micro_batch_size",
    "trainer.devices", "trainer.strategy", "trainer.precision", "trainer.compile", "trainer.autotune",
    "trainer.grad_clip", "trainer.on_nan",
    "trainer.warmup_steps", "trainer.lr_decay", "trainer.lr_milestones", "trainer.lr_factor",
    "trainer.ema", "trainer._target_",
)  # fmt: skip
MOST_LISTED = 3  # keys in one message
# values of options that are newer than a run's config
OLD_DEFAULTS: dict[str, Any] = {
    "model.learned_variance": False,
    "model.fine_channels": 0,
    "model.norm_groups": 32,
    "model.self_condition": False,
    "model.attention_side": "height",
    "schedule.shift": 1.0,
    "schedule.zero_terminal_snr": False,
    "objective.label_dropout": 0.0,
    "objective.learned_variance": False,
    "objective.bound_weight": 0.001,
    "objective.crop_ratio": [0.9, 1.1],
    "objective.zero_to_one": False,
    "objective.weighting": {"_target_": "ddpm_cli.objectives.weighting.Simple"},
    "objective.times": {"_target_": "ddpm_cli.objectives.times.Uniform"},
    "trainer.lr_milestones": [],
    "trainer.lr_factor": 0.1,
    "trainer.gradient_checkpointing": False,
    "trainer.autotune": False,
    "trainer.on_nan": "stop",
}
# free: these can change without changing what the next step computes
FREE = (
    "run_dir",
    "resume",
    "finetune",
    "experiment",
    "debug",
    "trust",
    "sweep_metric",
    "sampler",
    "guidance",
    "logger",
    "weighting",  # the objective has its own copy
    "times",
    "trainer.max_seconds",
    "trainer.budget",  # training.budget logs what follows from a change
    "trainer.device",
    "trainer.gradient_checkpointing",
    "trainer.log_every",
    "trainer.save_every",
    "trainer.save_seconds",
    "trainer.sample_every",
    "trainer.eval_every",
    "trainer.samples",
    "trainer.eval_images",
    "trainer.keep_last",
    "trainer.best_by",
    "trainer.ema._target_",  # the class has moved
    "trainer.features",
    "trainer.eval_samples",
    "dataset.root",
    "dataset.download",
    "dataset.cache",
    "dataset.name",
)
ABOUT = {
    "shape": FIXED,  # by the network that it needs
    "class_names": FIXED,  # if the model learns classes, see `identity.check_classes`
    "data": ADJUSTABLE,  # see `identity.changed`
    "images": ADJUSTABLE,
    "range": ADJUSTABLE,
}
"""The same for the facts about the data in a checkpoint."""


def starting_point(run_dir: Path, resume: bool | str) -> Checkpoint | None:
    """The checkpoint to resume from; None = train from scratch. See also `check_resumable`.

    Raises:
        ConfigError: resume=false in a directory with checkpoints.
        CheckpointError: there are checkpoints, but none is valid.
    """
    folder = run_dir / "checkpoints"
    if any(run_dir.glob("step_*.json")):
        raise ConfigError(
            f"run_dir: {shown(run_dir)} has checkpoints in it; a run has them in {folder.name}/, so name the folder "
            "above it, or move them there"
        )
    if resume == "":
        raise ConfigError("resume: is empty; set true, false or the path of a run")
    if resume is False:
        if any(folder.glob("step_*")):
            raise ConfigError(
                f"resume: {run_dir} already has checkpoints; set another run_dir, or resume=true to resume from them"
            )
        return None
    found = checkpoint.latest(folder)
    if found is not None:
        mark_saved(run_dir)
    elif was_saved(run_dir):
        raise CheckpointError(
            f"{shown(folder)}: has no checkpoint any more, but this run has saved some; put them back, set another "
            "run_dir, or set resume=false to train from scratch here"
        )
    if found is not None or not isinstance(resume, str):
        return found
    if not followed(Path(resume)).exists():
        raise CheckpointError(f"resume: there is no run at {resume}; set true, false or the path of a run")
    return checkpoint.find(resume)


def check_resumable(start: Checkpoint | None, config: Mapping[str, Any]) -> None:
    """Warn of changes since `start` that make resuming inexact. Raises ConfigError if it has another network."""
    if start is not None:
        compare(start.manifest.get("config", {}), config, shown(start.path))


def compare(old: Mapping[str, Any], new: Mapping[str, Any], where: str) -> None:
    """Raise ConfigError for changes that make resuming impossible, warn of those that make it inexact."""
    changed = [key for key, a, b in differences(old, new) if (OLD_DEFAULTS.get(key) if a is None else a) != b]
    if not isinstance(_at(new, "dataset.size"), list):  # of square images, both sides are the same
        changed = [key for key in changed if key != "model.attention_side"]
    fixed = [key for key in changed if kind_of(key) is FIXED]
    if fixed:
        # a changed class comes first: it is the cause of most other differences
        fixed.sort(key=lambda key: not key.endswith("._target_"))
        a, b = _at(old, fixed[0]), _at(new, fixed[0])
        a = OLD_DEFAULTS.get(fixed[0]) if a is None else a
        name = fixed[0].removesuffix("._target_")
        if name != fixed[0]:  # for a class its name is enough; its other keys differ as a consequence
            short = [str(value).rpartition(".")[2] for value in (a, b)]
            a, b = short if short[0] != short[1] else (a, b)
            fixed = [fixed[0], *(key for key in fixed[1:] if not key.startswith(f"{name}."))]
        rest = f" (and {', '.join(fixed[1:MOST_LISTED])}" if fixed[1:] else ""
        rest += f" and {len(fixed) - MOST_LISTED} more)" if len(fixed) > MOST_LISTED else ")" if rest else ""
        raise ConfigError(
            f"{name}: is {_typed(b)}, but {where} was trained with {_typed(a)}{rest}; set another run_dir, or keep the "
            "old value"
        )
    if {_decay(old), _decay(new)} == {"constant"}:
        changed = [key for key in changed if key != "trainer.lr_decay"]
    if _decay(new) != "cosine" or _at(new, "trainer.budget") is not None:
        # only with cosine the rate of a step depends on the number of steps, which a budget chooses by itself
        changed = [key for key in changed if key not in ("trainer.steps", "trainer.epochs")]
    soft = [key for key in changed if kind_of(key) is not FREE]
    if soft:
        lines = (f"{key} {_typed(_at(old, key))} -> {_typed(_at(new, key))}" for key in soft)
        log.warning("resuming with changed settings: %s", ", ".join(lines))


def _typed(value: Any) -> str:
    """The value as one would type it."""
    return repr(value) if isinstance(value, str) else json.dumps(value, default=str)


def _decay(config: Mapping[str, Any]) -> Any:
    """`trainer.lr_decay` with `auto` resolved, as `Plan` does."""
    decay, budget = _at(config, "trainer.lr_decay"), _at(config, "trainer.budget")
    return decay if decay != "auto" else "constant" if budget is None else "cosine"


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The leaves of both configs, as (dotted key, old value, new value)."""
    for name in dict.fromkeys([*old, *new]):
        a, b = old.get(name), new.get(name)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            yield from differences(a, b, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", a, b


def kind_of(key: str) -> tuple[str, ...] | None:
    """FIXED, ADJUSTABLE or FREE; None for a key that nobody has thought of, which is treated as adjustable."""
    fits = [(len(p), kind) for kind in (FIXED, ADJUSTABLE, FREE) for p in kind if key == p or key.startswith(f"{p}.")]
    return max(fits, key=lambda fit: fit[0])[1] if fits else None


def _at(config: Mapping[str, Any], key: str) -> Any:
    node: Any = config
    for name in key.split("."):
        node = node.get(name) if isinstance(node, Mapping) else None
    return node
