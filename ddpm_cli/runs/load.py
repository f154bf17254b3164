"""The one way to open a run: its manifest and tensors are read once, its objective and network built once."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from ..build import locate
from ..errors import CheckpointError
from ..files import shown
from ..hardware.options import Precision
from ..hardware.runtime import Runtime, choose_runtime
from . import checkpoint
from .assemble import Config, ModelSpec, network
from .checkpoint import Checkpoint, load_weights, with_prefix
from .families import family_of

Weights = Literal["ema", "raw"]
PACKAGE = "ddpm_cli"


@dataclass(frozen=True)
class RunModel:
    """The model in a checkpoint, ready to be called, and what the checkpoint tells of it.

    Args:
        checkpoint: None of a network that was never trained.
        model: what the objective makes of the network.
        config: of the run, as stored.
        trusted: packages whose classes `config` may name.
        weights: which the network has; `ema` only where there is an average.
        shape: (C,H,W) of the images.
        class_names: of the images; empty when there are none.
    """

    checkpoint: Checkpoint | None
    model: nn.Module
    module: nn.Module
    spec: ModelSpec
    config: Config
    trusted: frozenset[str]
    weights: Weights
    shape: tuple[int, ...]
    class_names: tuple[str, ...]

    @property
    def runtime(self) -> Runtime:
        return self.spec.runtime


class LoadedRun:
    """An opened run of a kind that nothing more is known of. Families derive from this."""

    name = "another model"
    """What users call it, with its article."""

    def __init__(self, run: RunModel):
        self.run = run
        self.config, self.trusted, self.runtime = run.config, run.trusted, run.runtime
        self.shape, self.class_names = run.shape, run.class_names

    @property
    def path(self) -> str:
        """Of its checkpoint, for messages."""
        return str(self.run.checkpoint.path) if self.run.checkpoint is not None else "model"

    @property
    def facts(self) -> dict[str, Any]:
        """Which checkpoint, and how it is computed with: what sample.json and eval.json say of it."""
        found = self.run.checkpoint
        assert found is not None
        return {
            "checkpoint": shown(found.path),
            "checkpoint_sha256": found.manifest["sha256"],
            "checkpoint_step": found.step,
            "weights": self.run.weights,
            "device": self.runtime.device.type,
            "precision": self.runtime.precision,
        }


def load(
    ckpt: str | Checkpoint,
    *,
    weights: Weights = "ema",
    device: str = "auto",
    precision: Precision = "auto",
    trust: Sequence[str] = (),
    runtime: Runtime | None = None,
) -> LoadedRun:
    """Open a run: a `Generator` of its family, or a `LoadedClassifier`.

    Args:
        ckpt: a run directory, a checkpoints directory or one file.
        weights: `ema` takes the last ones where there is no average.
        trust: packages of the user's own whose classes the checkpoint may name.
        runtime: in place of device and precision.

    Raises:
        CheckpointError: it is missing or damaged.
        ConfigError: a device that is not there, a package that is not trusted.
    """
    found = checkpoint.find(ckpt) if isinstance(ckpt, str) else ckpt
    config, trusted = dict(found.manifest["config"]), frozenset((PACKAGE, *trust))
    spec = ModelSpec.of(config, runtime or choose_runtime(device, precision), trusted)
    module, used = _network(found, config, weights, trusted, spec.runtime)
    model = spec.wrap(module)
    return _opened(RunModel(found, model, module, spec, config, trusted, used, *_about(found)))


def untrained(config: Config, spec: ModelSpec, shape: tuple[int, ...], class_names: tuple[str, ...]) -> LoadedRun:
    """The network of `config` with its first weights, opened as if it had been trained on such images."""
    module = spec.runtime.prepare(network(config)).eval().requires_grad_(False)
    model = spec.wrap(module)
    trusted = frozenset((PACKAGE,))
    return _opened(RunModel(None, model, module, spec, config, trusted, "raw", shape, class_names))


def _opened(run: RunModel) -> LoadedRun:
    opened = locate(family_of(run.model).opened, "ckpt", {PACKAGE})(run)
    assert isinstance(opened, LoadedRun)
    return opened


def _network(
    found: Checkpoint, config: Config, weights: Weights, trusted: Collection[str], runtime: Runtime
) -> tuple[nn.Module, Weights]:
    """The network of a checkpoint, ready to be called, and which weights it has."""
    tensors = found.tensors(f"{'model' if weights == 'raw' else 'ema'}.")
    if weights == "ema" and not tensors:  # trained with trainer.ema.decay=0
        tensors, weights = found.tensors("model."), "raw"
    module = network(config, trust=trusted)
    load_weights(module, with_prefix(tensors, "ema.") or with_prefix(tensors, "model."), str(found.path))
    return runtime.prepare(module).eval().requires_grad_(False), weights


def _about(found: Checkpoint) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The shape of its images and the names of their classes."""
    about = found.manifest.get("about", {})
    if "shape" not in about:
        raise CheckpointError(f"{found.manifest_path}: does not say the shape of its images; it is damaged")
    return tuple(int(n) for n in about["shape"]), tuple(str(n) for n in about.get("class_names", ()))
