"""Builds networks and models from config nodes."""

from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..build import build
from ..data.images import Images
from ..diffusion.compatible import check_sampler
from ..diffusion.denoiser import Denoiser
from ..diffusion.samplers import Sampler
from ..diffusion.schedule import Schedule
from ..errors import ConfigError
from ..hardware.runtime import Runtime
from ..objectives.base import Objective
from .bounds import MOST_PARTS, MOST_WEIGHTS, bounded
from .checkpoint import Checkpoint
from .identity import learns_classes

Config = Mapping[str, Any]


def network(
    config: Config, trust: Collection[str] | None = None, most: int = MOST_WEIGHTS, parts: int = MOST_PARTS
) -> nn.Module:
    """The module described by the model node. Its initial weights are a function of the seed.

    Args:
        trust: see `build`.
        most, parts: if the config is a stored one, the most values and the most modules that the network may have.

    If the number of classes is not known yet, see `completed`, it is taken as 1, which is enough to check the node.

    Raises:
        ConfigError: an unknown or missing key, a wrong type or value, a class that is not trusted.
        CheckpointError: a larger network than `most`.
    """
    node = dict(config["model"])
    if "num_classes" in node and node["num_classes"] is None:
        node["num_classes"] = 1
    with torch.random.fork_rng(devices=[]):  # opening a run must not seed the caller's process
        torch.default_generator.manual_seed(int(config["seed"]))
        with nullcontext() if trust is None else bounded(most, parts):
            module: nn.Module = build(node, "model", trust=trust)
    return module


def completed(config: Config, images: Images) -> dict[str, Any]:
    """`config` with the values that depend on the data: number of classes, mean and standard deviation per channel.

    They are needed to build the model from a checkpoint.

    Raises:
        ConfigError: the user has set one of those that follow from the dataset, and it does not fit.
    """
    node = dict(config["model"])
    if "num_classes" in node and node["num_classes"] is None:
        node["num_classes"] = images.classes
    _check_fit(config, node, images)
    unknown = [name for name in ("mean", "std") if name in node and node[name] is None]
    if unknown:
        statistics = channel_statistics(images)
        node |= {name: statistics[name] for name in unknown}
    return {**config, "model": node}


def _check_fit(config: Config, node: Mapping[str, Any], images: Images) -> None:
    channels, *sides = images.shape
    size = node.get("image_size", sides)
    wrong = {
        "in_channels": node.get("in_channels", channels) != channels,
        "image_size": (list(size) if isinstance(size, list | tuple) else [size, size]) != sides,
        "num_classes": node.get("num_classes", images.classes) < images.classes and learns_classes(config),
    }
    for name in (name for name in wrong if wrong[name]):
        facts = {"in_channels": channels, "image_size": sides, "num_classes": images.classes}
        raise ConfigError(
            f"model.{name}: is {node[name]}, but the dataset has {facts[name]}; leave it out, the dataset sets it"
        )


def with_statistics(config: Config, start: Checkpoint | None) -> Config:
    """`config` with the mean and deviation of the run that is resumed, which stay whatever pictures are added to it."""
    stored = {} if start is None else start.manifest["config"].get("model")
    if not isinstance(stored, Mapping):
        return config
    node = dict(config["model"])
    node |= {name: stored[name] for name in ("mean", "std") if name in node and node[name] is None and name in stored}
    return {**config, "model": node}


def channel_statistics(images: Images) -> dict[str, list[float]]:
    """Mean and standard deviation per channel over all pixels in [-1, 1]; 1 for the deviation of a constant channel."""
    values = torch.linspace(-1, 1, 256, dtype=torch.float64)
    means, deviations = [], []
    counts = torch.zeros(images.shape[0], 256, dtype=torch.int64)
    for batch in images.raw(4096):
        counts += torch.stack([torch.bincount(channel.flatten(), minlength=256) for channel in batch.unbind(1)])
    for count in counts:
        fraction = count.double() / count.sum()
        mean = (fraction * values).sum()
        means.append(float(mean))
        deviations.append(float((fraction * (values - mean).square()).sum().sqrt()) or 1.0)
    return {"mean": means, "std": deviations}


@dataclass(frozen=True)
class ModelSpec:
    """What turns a network into a model: its objective, its noise schedule, and the runtime (device and precision)."""

    objective: Objective
    schedule: Schedule
    runtime: Runtime

    @classmethod
    def of(cls, config: Config, runtime: Runtime, trust: Collection[str] | None = None) -> "ModelSpec":
        """Raises ConfigError for nodes that cannot be built."""
        objective = build(config["objective"], "objective", trust=trust)
        return cls(objective, build(config["schedule"], "schedule", trust=trust), runtime)

    def wrap(self, module: nn.Module) -> nn.Module:
        """The model around `module`, for example a `Denoiser`. Raises ConfigError for incompatible choices."""
        try:
            return self.objective.wrap(module, self.schedule, self.runtime.autocast)
        except ValueError as error:
            raise ConfigError(str(error)) from error


def check(model: Denoiser, sampler: Sampler) -> None:
    """Raises ConfigError when model and sampler are incompatible, before hours of training."""
    try:
        check_sampler(model, sampler)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def network_calls(sampler: Sampler, schedule: Schedule) -> int:
    """Network calls per batch. Raises ConfigError when the sampler needs more steps than the schedule has."""
    calls: Callable[[Schedule], int] = getattr(sampler, "calls", sampler.length)
    try:
        return calls(schedule)
    except ValueError as error:
        raise ConfigError(f"sampler.{error}") from error
