"""Limits for what a stored config may ask for, checked before memory is allocated."""

import math
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook
from torch.overrides import TorchFunctionMode

from ..errors import CheckpointError

LARGEST = 1_000_000
"""The largest whole number in a node: channels, layers, steps of a schedule or a sampler."""
ANY = 2**63
"""For keys that need neither time nor memory when a run is opened: seeds, values of pictures, `trainer`."""
MOST_VALUES = 2**28
"""Of one image."""
MOST_PARTS = 100_000
SPARE = 10_000_000
"""Values that a network may use while it is built, besides twice its weights."""
MODULES, SPARE_MODULES = 20, 1000
"""Modules that a network may have for each of its tensors, and besides."""
MOST_WEIGHTS = 2_000_000_000
FACTORIES = {torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.eye}


def limits(shapes: Iterable[Sequence[int]]) -> tuple[int, int]:
    """The most values, and the most modules, of a network whose tensors have these shapes while it is built."""
    sizes = [math.prod(shape) for shape in shapes]
    return 2 * sum(sizes) + SPARE, MODULES * len(sizes) + SPARE_MODULES


def check_numbers(config: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """Raises ValueError for a number that no run has: it would need all memory, or run for ever."""
    for key, number in _numbers(config, ""):
        free = key in ("seed", "dataset.split_seed") or key.startswith(("dataset.range", "trainer."))
        most = ANY if free and key != "trainer.batch_size" else LARGEST
        if abs(number) > most:
            raise ValueError(f"{key} is more than {most:,}")
    shape, model = about.get("shape", ()), config.get("model")
    wrong = any(type(n) is not int or n < 1 for n in shape) or ("shape" in about and len(shape) != 3)
    if wrong or math.prod(shape) > MOST_VALUES:
        raise ValueError(f"images of shape {shape}")
    names = about.get("class_names", [])
    if not isinstance(names, list):
        raise ValueError("names of classes that are no list")
    if shape and isinstance(model, Mapping) and _classes_of(model) not in (None, len(names)):
        raise ValueError(f"{len(names)} names of classes, but a network for {_classes_of(model)}")
    own = _shape_of(model) if shape and isinstance(model, Mapping) else None
    if own is not None and own != list(shape):
        raise ValueError(f"images of shape {shape}, but a network for {own}")


def _classes_of(model: Mapping[str, Any]) -> int | None:
    """The number of classes that one of our networks learns; None if its node does not tell."""
    ours = str(model.get("_target_")).startswith("ddpm_cli.") and model.get("class_conditional", True) is not False
    number = model.get("num_classes") if ours else None
    return number if type(number) is int else None


def _shape_of(model: Mapping[str, Any]) -> list[Any] | None:
    """The shape of the images that one of our networks is for; None if its node does not tell."""
    if not str(model.get("_target_")).startswith("ddpm_cli.") or not {"in_channels", "image_size"} <= model.keys():
        return None
    size = model["image_size"]
    return [model["in_channels"], *(size if isinstance(size, list) else (size, size))]


def _numbers(node: Any, key: str) -> Iterator[tuple[str, int]]:
    if type(node) is int:
        yield key, node
    elif isinstance(node, Mapping | list):
        items = node.items() if isinstance(node, Mapping) else enumerate(node)
        for name, value in items:
            yield from _numbers(value, f"{key}.{name}" if key else str(name))


class _Budget(TorchFunctionMode):
    """Counts the values of the tensors that are made inside, before memory is allocated for them."""

    def __init__(self, most: int):
        super().__init__()
        self.left = self.most = most

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in FACTORIES:
            sizes = kwargs.get("size", args[0] if args and isinstance(args[0], list | tuple) else args)
            if func is torch.eye:
                sizes = args[:2] if len(args) > 1 else (*args, *args)
            self.left -= math.prod(n for n in sizes if type(n) is int)
            if self.left < 0:
                raise CheckpointError(f"model: needs more than {self.most:,} values, unlike the network that was saved")
        return func(*args, **kwargs)


@contextmanager
def bounded(most: int = MOST_WEIGHTS, parts: int = MOST_PARTS) -> Iterator[None]:
    """A module that is built inside has at most `most` values, and at most `parts` modules in it.

    Raises:
        CheckpointError: it would have more.
    """
    thread, left = threading.get_ident(), parts

    def on_module(module: nn.Module, name: str, child: Any) -> None:
        nonlocal left
        left -= threading.get_ident() == thread
        if left < 0:
            raise CheckpointError(f"model: has more than {parts:,} parts, unlike the network that was saved")

    handle = register_module_module_registration_hook(on_module)
    try:
        with _Budget(most):
            yield
    finally:
        handle.remove()
