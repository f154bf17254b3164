"""A checkpoint ready to draw from, and what drawing needs."""

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from ..build import build
from ..commands.given import given
from ..diffusion.guidance import Classifier
from ..diffusion.schedule import Schedule
from ..errors import CheckpointError, ConfigError, NonFiniteError
from ..files import shown
from ..hardware.options import Precision
from ..hardware.runtime import Runtime, choose
from ..objectives.classify import Classify
from ..render.clock import clock_of
from ..training.state import load_weights, part
from . import checkpoint
from .assemble import Config, cycle, denoiser_of, network, without
from .checkpoint import Checkpoint

log = logging.getLogger(__name__)


class Opened:
    """A checkpoint of a generator: its network with the weights asked for, and what all commands want to know of it.

    Raises:
        CheckpointError: it is missing or damaged, or a classifier.
        ConfigError: a device that is not there, a package that is not trusted.
    """

    idle: ClassVar[tuple[str, ...]] = ()
    """Keys of sample, gif and eval that it has no use for."""

    def __init__(self, ckpt: str | Checkpoint, weights: str, device: str, precision: Precision, trust: Sequence[str]):
        self.checkpoint = checkpoint.find(ckpt) if isinstance(ckpt, str) else ckpt
        self.runtime = choose(device, precision)
        self.config = dict(self.checkpoint.manifest["config"])
        self.trusted = {"ddpm_cli", *trust}
        objective = build(self.config["objective"], "objective", trust=self.trusted)
        if isinstance(objective, Classify):
            raise CheckpointError(f"{self.checkpoint.path}: is a classifier; name a run of a diffusion model")
        module, self.weights = network_of(self.checkpoint, weights, self.trusted, self.runtime)
        self.module = self.runtime.freeze(module)
        self.shape, self.class_names = _about(self.checkpoint)

    def used(self, config: Config) -> Config:
        """What of `config` to show; a line when the user chose a sampler for a model that has no use for it.

        Other idle keys are refused where they are read, unless they say what is so anyway.
        """
        if "sampler" in self.idle and given("sampler"):
            log.warning("sampler: is not used; this model draws at once, without one")
        return without(config, self.idle)

    def facts(self) -> dict[str, Any]:
        """What sample.json says of it."""
        return facts_of(self.checkpoint, self.weights, self.runtime)


class Loaded(Opened):
    """A diffusion model ready to draw from. Raises what `Opened` raises, and ConfigError for another generator."""

    idle = ("prior", "pixel_noise")

    def __init__(self, ckpt: str | Checkpoint, weights: str, device: str, precision: Precision, trust: Sequence[str]):
        super().__init__(ckpt, weights, device, precision, trust)
        self.model = denoiser_of(self.config, self.trusted, self.runtime)(self.module)
        self.conditional = bool(getattr(self.module, "class_conditional", False))
        # older runs do not say: they had none
        self.label_dropout = float(self.config["objective"].get("label_dropout", 0.0))
        self.clock = clock_of(self.model.schedule, self.config["schedule"].get("steps"))

    def labels(
        self,
        n: int,
        label: int | str | None,
        labels: Sequence[int | str] | None,
        class_names: Sequence[str] | None = None,
    ) -> Tensor | None:
        """(n,) the asked classes repeated; all classes in turn when none is asked; None for an unconditional model.

        Args:
            class_names: of the classifier that guides, with which an unconditional model takes labels too.

        Raises:
            ConfigError: a class that is not there, or any class for an unconditional model.
        """
        if label is not None and labels is not None:
            raise ConfigError("label: is given together with labels; give one of them")
        asked = list(labels) if labels is not None else [label] if label is not None else []
        if not self.conditional and class_names is None:
            if asked:
                raise ConfigError(
                    "label: this model knows no classes; train with model.class_conditional=true, "
                    "or guide with a classifier"
                )
            return None
        names = list(self.class_names if class_names is None else class_names)
        return cycle([_class(a, names) for a in asked] or range(len(names)), n)


class LoadedClassifier(NamedTuple):
    """A classifier ready to be asked.

    Args:
        noisy: it sees x_t of `schedule` and is told t, else images.
        config: of its run.
        facts: what eval.json says of it.
    """

    module: Classifier
    noisy: bool
    class_names: tuple[str, ...]
    schedule: Schedule
    shape: tuple[int, ...]
    digest: str
    config: Mapping[str, Any]
    facts: Mapping[str, Any]


def classifier_of(
    ckpt: str | Checkpoint, trust: Collection[str], runtime: Runtime, weights: str = "ema"
) -> LoadedClassifier:
    """The classifier at `ckpt` on the device of `runtime`.

    Raises:
        CheckpointError: it is missing, damaged or no classifier.
    """
    found, trusted = checkpoint.find(ckpt) if isinstance(ckpt, str) else ckpt, {"ddpm_cli", *trust}
    config = found.manifest["config"]
    objective = build(config["objective"], "objective", trust=trusted)
    if not isinstance(objective, Classify):
        raise CheckpointError(f"{found.path}: is not a classifier; train one with model=unet_classifier")
    module, used = network_of(found, weights, trusted, runtime)
    shape, names = _about(found)
    schedule = build(config["schedule"], "schedule", trust=trusted)
    digest, facts = str(found.manifest["sha256"]), facts_of(found, used, runtime)
    return LoadedClassifier(module, objective.noisy, names, schedule, shape, digest, dict(config), facts)


def facts_of(found: Checkpoint, weights: str, runtime: Runtime) -> dict[str, Any]:
    """Which checkpoint, and how it is computed with."""
    return {
        "checkpoint": shown(found.path),
        "checkpoint_sha256": found.manifest["sha256"],
        "checkpoint_step": found.step,
        "weights": weights,
        "device": runtime.device.type,
        "precision": runtime.precision,
    }


def network_of(found: Checkpoint, weights: str, trusted: Collection[str], runtime: Runtime) -> tuple[nn.Module, str]:
    """The network of a checkpoint, ready to be called, and which weights it has: `ema` only where there is one."""
    tensors = found.tensors(f"{'model' if weights == 'raw' else 'ema'}.")
    if weights == "ema" and not tensors:  # trained with trainer.ema.decay=0
        tensors, weights = found.tensors("model."), "raw"
    module = network(dict(found.manifest["config"]), trust=trusted)
    load_weights(module, part(tensors, "ema.") or part(tensors, "model."), str(found.path))
    if getattr(module, "generates", None) != "exact":  # a mixture is in float64, which not every device has
        module = runtime.prepare(module)
    return module.eval().requires_grad_(False), weights


def _about(found: Checkpoint) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The shape of its images and the names of their classes."""
    about = found.manifest.get("about", {})
    if "shape" not in about:
        raise CheckpointError(f"{found.manifest_path}: does not say the shape of its images; it is damaged")
    return tuple(int(n) for n in about["shape"]), tuple(str(n) for n in about.get("class_names", ()))


def _class(asked: int | str, names: Sequence[str]) -> int:
    if isinstance(asked, int) and 0 <= asked < len(names):
        return asked
    if str(asked) in names:
        return names.index(str(asked))
    raise ConfigError(f"label: there is no class {asked!r}; classes: {', '.join(names)}")


def finite(images: Tensor) -> Tensor:
    """Raises NonFiniteError for NaN or infinity."""
    bad = int((~images.isfinite()).flatten(1).any(1).sum())
    if bad:
        raise NonFiniteError(
            f"samples: {bad} of {len(images)} are not finite; use precision=fp32, or an earlier checkpoint"
        )
    return images
