"""`finetune=RUN`: a new run that starts from the weights of another one.

Weights and their average come from RUN. Everything else is new: optimizer, step, seconds, best checkpoint, order of the
data. Unless the user chooses others, the network, the objective and the noise schedule are those of RUN, because they
give the weights their meaning.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..build import build
from ..diffusion.guidance import ClassifierFree
from ..errors import CheckpointError
from ..files import shown
from ..progress import plural
from ..runs import checkpoint
from ..runs.assemble import network
from ..runs.bounds import check_numbers, limits
from ..runs.checkpoint import Checkpoint
from ..runs.job import Job
from ..runs.misfits import NO_MODEL, understood
from ..runs.tensor_file import with_prefix
from ..text import in_list
from .options import TrainOptions
from .state import TrainState

log = logging.getLogger(__name__)
OF_DATA = ("in_channels", "image_size", "num_classes", "mean", "std")
"""Options of a network that follow from the dataset."""
CLASSIFIER_FREE = f"{ClassifierFree.__module__}.{ClassifierFree.__name__}"
LISTED = 8


def adopted(options: TrainOptions, job: Job, source: Checkpoint) -> tuple[TrainOptions, Job]:
    """The options and the job with network, objective, schedule and guidance of `source`, where the user sets none.

    Raises:
        ConfigError: one of its nodes cannot be built, or is not trusted.
        CheckpointError: it describes no network.
    """
    stored: Mapping[str, Any] = source.manifest["config"]
    _say_other_data(stored.get("dataset"), job, source)
    trust = frozenset(options.trust)
    config = dict(job.config)
    if not job.sets("model") and isinstance(stored.get("model"), Mapping):
        network({**stored, "seed": 0}, trust, *limits(source.shapes().values()))  # raises what is wrong with it
        model = dict(stored["model"])
        own = config["model"]
        model |= {name: own[name] for name in OF_DATA if name in model and name in own}
        if model.get("class_conditional"):
            model["class_conditional"] = None  # if the new dataset has classes
        config["model"] = model
        options = replace(options, model=model)
    for name in ("schedule", "objective", "guidance"):
        node = stored.get(name)
        if name == "guidance" and (not isinstance(node, Mapping) or node.get("_target_") != CLASSIFIER_FREE):
            continue  # what guides another run may lie anywhere
        if not job.sets(name) and isinstance(node, Mapping):
            config[name] = stored[name]
            options = replace(options, **{name: build(stored[name], name, trust=trust)})
    return options, replace(job, config=config)


def _say_other_data(before: Any, job: Job, source: Checkpoint) -> None:
    """A line where the user has not chosen the pictures, their size or colours, and they are not those of `source`."""
    now, run = job.config["dataset"], shown(source.path)
    if not isinstance(before, Mapping):
        return
    if not job.sets("dataset") and any(before.get(key) != now.get(key) for key in ("_target_", "root")):
        was, own = (f"{d.get('name')}{f' in {root}' if (root := d.get('root')) else ''}" for d in (before, now))
        log.warning(
            "finetune: %s was trained on %s, but this run learns %s, as dataset is not set; set dataset (and "
            "dataset.root) for other pictures", run, was, own,
        )  # fmt: skip
    for key in ("size", "channels"):
        if not job.sets(f"dataset.{key}") and before.get(key) != now.get(key):
            log.info("finetune: dataset.%s is %s; in %s it is %s", key, now.get(key), run, before.get(key))


def find_source(options: TrainOptions) -> Checkpoint | None:
    """The checkpoint that `finetune` names. Raises CheckpointError if it has no valid one."""
    if options.finetune is None:
        return None
    found = checkpoint.find(options.finetune)
    with understood(found.manifest_path, NO_MODEL):
        check_numbers(found.manifest["config"], found.manifest.get("about", {}))
    return found


def take_weights(state: TrainState, source: Checkpoint, class_names: Sequence[str]) -> None:
    """Copy what fits from `source` into the network and its average; rows of classes are matched by name.

    Raises:
        CheckpointError: nothing fits.
    """
    tensors = source.tensors()
    old_names = [str(name) for name in source.manifest.get("about", {}).get("class_names", ())]
    averaged = with_prefix(tensors, "ema.") or with_prefix(tensors, "model.")
    left_out = _copy(state.module, with_prefix(tensors, "model."), old_names, class_names)
    if state.ema:
        _copy(state.ema.module, averaged, old_names, class_names)
    total = len(state.module.state_dict())
    where = shown(source.path)
    if len(left_out) == total:
        raise CheckpointError(f"{where}: nothing of it fits this network; choose the same model as that run")
    log.info("finetune: %d of %d tensors are those of %s (step %d)", total - len(left_out), total, where, source.step)
    fresh = [in_list(name) for name in class_names if name not in old_names] if old_names else []
    if fresh:
        others = f" and {len(fresh) - LISTED} more" if len(fresh) > LISTED else ""
        log.info("finetune: new classes, which start from scratch: %s%s", ", ".join(fresh[:LISTED]), others)
    if left_out:
        more = ", ..." if len(left_out) > LISTED else ""
        names = ", ".join(left_out[:LISTED])
        what = plural(len(left_out), "tensor")
        log.warning("finetune: %s of another shape, trained from scratch: %s%s", what, names, more)


@torch.no_grad()
def _copy(module: nn.Module, tensors: Mapping[str, Tensor], old: Sequence[str], new: Sequence[str]) -> list[str]:
    """Returns the names of the tensors of `module` that keep their initial values, all or in part."""
    left_out = []
    for name, target in module.state_dict().items():
        found = tensors.get(name)
        by_class = found is not None and old and _rows(found) == len(old) and _rows(target) == len(new)
        if found is not None and by_class and list(old) != list(new) and found.shape[1:] == target.shape[1:]:
            rows = [(i, old.index(label)) for i, label in enumerate(new) if label in old]
            for i, k in rows:
                target[i].copy_(found[k])
        elif found is not None and found.shape == target.shape:
            target.copy_(found)
        else:
            left_out.append(name)
    return left_out


def _rows(tensor: Tensor) -> int:
    """0 for a single number, such as the count of batches that a normalisation has seen."""
    return len(tensor) if tensor.ndim else 0
