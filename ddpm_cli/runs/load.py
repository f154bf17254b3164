"""Opens a run: its manifest and tensors are read once, its objective and network are built once."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from ..build import checked, locate
from ..data.survey import Values
from ..errors import CheckpointError
from ..files import shown
from ..hardware.options import Precision
from ..hardware.runtime import Runtime, choose_runtime
from ..text import PathText
from . import checkpoint
from .assemble import Config, ModelSpec, network
from .bounds import check_numbers, limits
from .checkpoint import Checkpoint
from .families import family_of
from .misfits import NO_MODEL, load_weights, understood
from .origin import is_here
from .tensor_file import with_prefix

log = logging.getLogger(__name__)

Weights = Literal["ema", "raw"]
UNKNOWN_VALUES = Values()


@dataclass(frozen=True)
class RunModel:
    """The model of a checkpoint, ready to be called, with facts from the checkpoint.

    Args:
        checkpoint: None for a network that was never trained.
        model: the network wrapped by the objective.
        config: the run's config, as stored.
        trusted: the user's packages, whose classes `config` may name.
        weights: which weights are loaded; `ema` only if the run has an average.
        shape: (C,H,W) of the images.
        class_names: of the images; empty when there are no classes.
        values: the stored values of its pictures that were black and white.
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
    values: Values = UNKNOWN_VALUES

    @property
    def runtime(self) -> Runtime:
        return self.spec.runtime


class LoadedRun:
    """An opened run of an unknown kind of model. The classes of the families derive from this one."""

    name = "another model"
    """What the kind of model is called in messages, with its article."""

    def __init__(self, run: RunModel):
        self.run = run
        self.config, self.trusted, self.runtime = run.config, run.trusted, run.runtime
        self.shape, self.class_names, self.values = run.shape, run.class_names, run.values

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.path}>"

    @property
    def path(self) -> str:
        """The path of its checkpoint, for messages."""
        return str(self.run.checkpoint.path) if self.run.checkpoint is not None else "model"

    @property
    def trained_here(self) -> bool:
        """Whether it was trained on this machine, so that its folder of pictures is one that the user named."""
        opened = self.run.checkpoint
        return opened is None or is_here(opened.path.resolve().parent.parent, opened.manifest)

    @property
    def about(self) -> Mapping[str, Any]:
        """What its checkpoint says about the images it was trained on."""
        return {} if self.run.checkpoint is None else dict(self.run.checkpoint.manifest.get("about", {}))

    @property
    def trained_images(self) -> int | None:
        """The number of images it was trained on, if that is known."""
        number = self.about.get("images")
        return number if isinstance(number, int) else None

    @property
    def facts(self) -> dict[str, Any]:
        """The entries of sample.json and eval.json on the checkpoint, the device and the precision."""
        opened = self.run.checkpoint
        assert opened is not None
        return {
            "checkpoint": shown(opened.path),
            "checkpoint_sha256": opened.manifest["sha256"],
            "checkpoint_step": opened.step,
            "weights": self.run.weights,
            "device": self.runtime.device.type,
            "precision": self.runtime.precision,
        }


@checked
def load(
    ckpt: PathText | Checkpoint,
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
        weights: `ema` falls back to the last weights if the run has no average.
        trust: the user's own packages whose classes the checkpoint may name.
        runtime: replaces device and precision.

    Raises:
        CheckpointError: it is missing or damaged.
        ConfigError: the device does not exist, or a package is not trusted.
    """
    found = checkpoint.find(ckpt) if isinstance(ckpt, str) else ckpt
    chosen = runtime or choose_runtime(device, precision)
    with understood(found.manifest_path, NO_MODEL):
        config, trusted = dict(found.manifest["config"]), frozenset(trust)
        check_numbers(config, found.manifest.get("about", {}))
        spec = ModelSpec.of(config, chosen, trusted)
        module, used = _network(found, config, weights, trusted, spec.runtime)
        model = spec.wrap(module)
        return _opened(RunModel(found, model, module, spec, config, trusted, used, *_about(found), _values(found)))


def untrained(config: Config, spec: ModelSpec, shape: tuple[int, ...], class_names: tuple[str, ...]) -> LoadedRun:
    """The network of `config` with its initial weights, opened like a run trained on images of that shape."""
    module = spec.runtime.prepare(network(config)).eval().requires_grad_(False)
    model = spec.wrap(module)
    return _opened(RunModel(None, model, module, spec, config, frozenset(), "raw", shape, class_names))


def _opened(run: RunModel) -> LoadedRun:
    opened = locate(family_of(run.model).opened, "ckpt", None)(run)
    assert isinstance(opened, LoadedRun)
    return opened


def _network(
    found: Checkpoint, config: Config, weights: Weights, trusted: Collection[str], runtime: Runtime
) -> tuple[nn.Module, Weights]:
    """The network of a checkpoint, ready to be called, and the kind of its weights."""
    tensors = found.tensors(f"{'model' if weights == 'raw' else 'ema'}.")
    if weights == "ema" and not tensors:  # trained with trainer.ema.decay=0
        tensors, weights = found.tensors("model."), "raw"
        if _at(config, "trainer", "ema", "decay") == 0:
            log.info("weights: the run has no average of its weights; using the last ones")
    module = network(config, trusted, *limits(tensor.shape for tensor in tensors.values()))
    load_weights(module, with_prefix(tensors, "ema.") or with_prefix(tensors, "model."), str(found.path))
    return runtime.prepare(module).eval().requires_grad_(False), weights


def _at(node: Any, *keys: str) -> Any:
    for key in keys:
        node = node.get(key) if isinstance(node, Mapping) else None
    return node


def _values(found: Checkpoint) -> Values:
    """The values of its pictures, which older checkpoints do not have."""
    stored, dataset = found.manifest.get("about", {}).get("range"), found.manifest["config"].get("dataset")
    chosen = dataset.get("range") if isinstance(dataset, Mapping) else None
    everywhere = isinstance(chosen, list)
    return Values(_pair(chosen) if everywhere else _pair(stored), everywhere)


def _pair(value: Any) -> tuple[float, float] | None:
    numbers = isinstance(value, list) and len(value) == 2 and all(type(v) in (int, float) for v in value)
    return (float(value[0]), float(value[1])) if numbers and value[0] < value[1] else None


def _about(found: Checkpoint) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The image shape and the class names of a checkpoint."""
    about = found.manifest.get("about", {})
    if "shape" not in about:
        raise CheckpointError(
            f"{found.manifest_path}: is damaged (no image shape); restore it or use another checkpoint"
        )
    return tuple(int(n) for n in about["shape"]), tuple(str(n) for n in about.get("class_names", ()))
