"""Config nodes -> the objects that train, sample and gif share."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..build import build
from ..data.images import Images
from ..diffusion.compatible import check_sampler
from ..diffusion.denoiser import Denoiser
from ..diffusion.samplers import Sampler
from ..diffusion.schedule import Schedule
from ..errors import ConfigError
from ..hardware.runtime import Runtime
from ..objectives.base import Objective

Config = Mapping[str, Any]


def network(config: dict[str, Any], images: Images | None = None, trust: Collection[str] | None = None) -> nn.Module:
    """The model node as a module, its first weights a function of the seed.

    Without `images`, classes that only the data can tell are taken as one: good enough to check the rest of the node.
    """
    node = dict(config["model"])
    if "num_classes" in node and node["num_classes"] is None:
        node["num_classes"] = images.classes if images is not None else 1
    if images is not None:
        unknown = [name for name in ("mean", "std") if name in node and node[name] is None]
        node |= {name: value for name, value in _statistics(images).items() if name in unknown} if unknown else {}
        config["model"] = node  # the checkpoint must know
    torch.manual_seed(int(config["seed"]))
    module: nn.Module = build(node, "model", trust=trust)
    return module


def _statistics(images: Images) -> dict[str, list[float]]:
    """Mean and standard deviation of each channel over all pixels, in units of [-1, 1]; 1 for one that never varies."""
    values = torch.linspace(-1, 1, 256, dtype=torch.float64)
    means, deviations = [], []
    counts = torch.zeros(images.shape[0], 256, dtype=torch.int64)
    for part in images.raw(4096):
        counts += torch.stack([torch.bincount(channel.flatten(), minlength=256) for channel in part.unbind(1)])
    for count in counts:
        share = count.double() / count.sum()
        mean = (share * values).sum()
        means.append(float(mean))
        deviations.append(float((share * (values - mean).square()).sum().sqrt()) or 1.0)
    return {"mean": means, "std": deviations}


def wrapper_of(
    config: Config, runtime: Runtime, objective: Objective, trust: Collection[str] | None = None
) -> Callable[[nn.Module], nn.Module]:
    """Wraps a network with the schedule of `config` and what the objective makes of it, a Denoiser say.

    The wrapper raises ConfigError when schedule and objective make no sense together.
    """
    schedule = build(config["schedule"], "schedule", trust=trust)

    def wrap(module: nn.Module) -> nn.Module:
        try:
            return objective.wrap(module, schedule, runtime.autocast)
        except ValueError as error:
            raise ConfigError(str(error)) from error

    return wrap


def denoiser_of(config: Config, trust: Collection[str] | None, runtime: Runtime) -> Callable[[nn.Module], Denoiser]:
    """The wrapper of a generator. Raises ConfigError when `config` describes something else."""
    objective = build(config["objective"], "objective", trust=trust)
    wrap = wrapper_of(config, runtime, objective, trust)

    def checked(module: nn.Module) -> Denoiser:
        model = wrap(module)
        if not isinstance(model, Denoiser):
            raise ConfigError("ckpt: does not generate images; name a run of a diffusion model")
        return model

    return checked


def check(model: Denoiser, sampler: Sampler) -> None:
    """Raises ConfigError when they do not go together, before hours pass."""
    try:
        check_sampler(model, sampler)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def network_calls(sampler: Sampler, schedule: Schedule) -> int:
    """For one batch. Raises ConfigError when the sampler asks for more steps than there are."""
    calls: Callable[[Schedule], int] = getattr(sampler, "calls", sampler.length)
    try:
        return calls(schedule)
    except ValueError as error:
        raise ConfigError(f"sampler.{error}") from error


def labels_of(module: nn.Module, classes: int, n: int) -> Tensor | None:
    """The classes in turn for n pictures of a class-conditional model; None for another."""
    return cycle(range(classes), n) if getattr(module, "class_conditional", False) else None


def about(images: Images) -> dict[str, Any]:
    """What a checkpoint says of its data."""
    return {"shape": list(images.shape), "class_names": list(images.class_names), "images": len(images)}


def summary(runtime: Runtime, images: Images, module: nn.Module) -> str:
    """One line for the log."""
    parameters = sum(p.numel() for p in module.parameters())
    c, h, w = images.shape
    return f"{len(images):,} images of {h}x{w}x{c}, {parameters:,} parameters, {runtime}"


def without(config: Config, keys: Collection[str]) -> Config:
    """What of it to show: `keys` are of no use this time."""
    return {key: value for key, value in config.items() if key not in keys}


def check_seed(seed: int) -> None:
    """Raises ConfigError for one that random generators do not take; image i has seed + i."""
    if not 0 <= seed < 2**62:
        raise ConfigError(f"seed: must be at least 0 and below 2^62, got {seed}")


def cycle(classes: Sequence[int], n: int) -> Tensor:
    """(n,) int64: the classes over and over."""
    return torch.tensor([classes[i % len(classes)] for i in range(n)], dtype=torch.int64)


def check_positive(**values: float) -> None:
    """Raises ConfigError for the first that is not above 0."""
    for name, value in values.items():
        if not value > 0:
            raise ConfigError(f"{name}: must be positive, got {value}")
