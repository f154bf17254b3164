"""Everything that changes while a model trains, and its way into a checkpoint and back."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..runs.checkpoint import Checkpoint, load_weights, with_prefix
from .ema import EMA
from .meter import Period

log = logging.getLogger(__name__)


class TrainState:
    """Weights, their average, the optimizer's memory, how far and how long.

    Args:
        module: the network whose weights are trained and saved.
        ema: their average, or None.
        times: what an objective remembers of its losses, or None.
    """

    def __init__(self, module: nn.Module, optimizer: Optimizer, ema: EMA | None, times: nn.Module | None = None):
        self.module = module
        self.optimizer = optimizer
        self.ema = ema
        self.times = times
        self.step = 0
        self.resumed_from: Path | None = None
        self.seconds = 0.0  # of training, all sessions together
        self.best: dict[str, Any] = {}  # {"step", "value", "by"} of the metric that best_by names
        self.period = Period()
        self.chosen: dict[str, Any] = {}  # what "auto" came to when the run began: "compile", "micro_batch_size"
        self._names: dict[Tensor, str] = {p: name for name, p in module.named_parameters()}
        self.parameters = list(module.parameters())

    @property
    def weights(self) -> nn.Module:
        """What a sample is drawn with: the average where there is one."""
        return self.ema.module if self.ema else self.module

    def micro_batch(self, requested: int | Literal["auto"] | None, size: int) -> int:
        """How many of a batch of `size` images are computed at a time."""
        chosen = self.chosen.get("micro_batch_size") if requested == "auto" else requested
        return min(int(chosen or size), size)

    def notes(self) -> dict[str, Any]:
        """What the manifest of its checkpoint says of it."""
        return {"best": self.best, "period": self.period.saved(), "chosen": self.chosen}

    def tensors(self) -> dict[str, Tensor]:
        """Named `model.`, `ema.`, `optimizer.` and `times.`, as in the checkpoint."""
        out = {f"model.{k}": v for k, v in self.module.state_dict().items()}
        if self.ema:
            out |= {f"ema.{k}": v for k, v in self.ema.module.state_dict().items()}
        if self.times:
            out |= {f"times.{k}": v for k, v in self.times.state_dict().items()}
        for parameter, memory in self.optimizer.state.items():
            for key, value in memory.items():
                tensor = value if isinstance(value, Tensor) else torch.tensor(value)
                out[f"optimizer.{self._names[parameter]}.{key}"] = tensor
        return out

    def load(self, checkpoint: Checkpoint) -> None:
        """Go on from `checkpoint`. Raises CheckpointError when its tensors are of another network."""
        tensors, where = checkpoint.tensors(), str(checkpoint.path)
        load_weights(self.module, with_prefix(tensors, "model."), where)
        if self.ema:  # a run that was begun without an average starts one from its weights
            load_weights(self.ema.module, with_prefix(tensors, "ema.") or with_prefix(tensors, "model."), where)
        if self.times:
            load_weights(self.times, with_prefix(tensors, "times."), where)
        self._load_optimizer(with_prefix(tensors, "optimizer."))
        self.resumed_from = checkpoint.path
        self.step, self.seconds = checkpoint.step, float(checkpoint.manifest["seconds"])
        self.best = dict(checkpoint.manifest.get("best", {}))
        self.period = Period(**checkpoint.manifest.get("period", {}))
        self.chosen = dict(checkpoint.manifest.get("chosen", {}))

    def choose_best_by(self, measured_by: str | None) -> None:
        """Forget a best checkpoint that was chosen by something else: values of two metrics do not compare."""
        was = self.best.get("by", measured_by)
        if measured_by is not None and was != measured_by:
            log.warning("the best checkpoint so far, step %d, was chosen by %s; choosing anew", self.best["step"], was)
            self.best = {}

    def _load_optimizer(self, memory: Mapping[str, Tensor]) -> None:
        state: dict[int, dict[str, Tensor]] = {}
        place = {name: (i, parameter) for i, (parameter, name) in enumerate(self._names.items())}
        for key, value in memory.items():
            name, _, field = key.rpartition(".")
            index, parameter = place[name]
            if value.shape == parameter.shape:  # fused kernels walk weights and moments as laid out: both channels_last
                value = torch.empty_like(parameter).copy_(value)
            state.setdefault(index, {})[field] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
