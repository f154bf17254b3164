"""Everything that changes while a model trains, and how it is saved to and loaded from checkpoints."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..runs.checkpoint import Checkpoint
from ..runs.misfits import NOT_SAVED, load_weights, understood
from ..runs.tensor_file import with_prefix
from .ema import EMA
from .meter import Period

log = logging.getLogger(__name__)


class TrainState:
    """Weights, their average, the state of the optimizer, the step and the time.

    Args:
        module: the network whose weights are trained and saved.
        ema: the average of its weights, or None.
        times: the module in which an objective keeps statistics of its losses, or None.
    """

    def __init__(self, module: nn.Module, optimizer: Optimizer, ema: EMA | None, times: nn.Module | None = None):
        self.module = module
        self.optimizer = optimizer
        self.ema = ema
        self.times = times
        self.step = 0
        self.resumed_from: Path | None = None
        self.seconds = 0.0  # of training, all sessions together
        self.lead = 0.0  # of this session before training: reading data, building the network
        self.owed = False  # a signal came when a validation or a picture was due; it is made up for on resuming
        self.best: dict[str, Any] = {}  # {"step", "value", "by"} of the metric that best_by names
        self.period = Period()
        # how "auto" was resolved when the run started: "compile", "micro_batch_size"; and "budget", a `Decision`
        self.chosen: dict[str, Any] = {}
        self.fitted_steps = 0  # steps of this session that have fitted into memory, counted by `fitting`
        self._names: dict[Tensor, str] = {p: name for name, p in module.named_parameters()}
        self.parameters = list(module.parameters())

    @property
    def weights(self) -> nn.Module:
        """The network that samples are drawn with: the average if there is one."""
        return self.ema.module if self.ema else self.module

    def micro_batch(self, requested: int | Literal["auto"] | None, size: int) -> int:
        """The size of the parts in which a batch of `size` images is computed."""
        chosen = self.chosen.get("micro_batch_size") if requested == "auto" else requested
        return min(int(chosen or size), size)

    def notes(self) -> dict[str, Any]:
        """Entries for the manifest of a checkpoint."""
        owed = {"owed": True} if self.owed else {}
        return {"best": self.best, "period": self.period.saved(), "chosen": self.chosen, **owed}

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
        """Resume from `checkpoint`. Raises CheckpointError when its tensors do not fit the network."""
        tensors, path = checkpoint.tensors(), str(checkpoint.path)
        load_weights(self.module, with_prefix(tensors, "model."), path)
        if self.ema:  # a run that had no average so far starts one from its weights
            load_weights(self.ema.module, with_prefix(tensors, "ema.") or with_prefix(tensors, "model."), path)
        if self.times:
            load_weights(self.times, with_prefix(tensors, "times."), path)
        self.resumed_from = checkpoint.path
        with understood(checkpoint.path, NOT_SAVED):
            self._load_optimizer(with_prefix(tensors, "optimizer."))
            self.step, self.seconds = checkpoint.step, float(checkpoint.manifest["seconds"])
            self.owed = checkpoint.manifest.get("owed") is True
            self.best = dict(checkpoint.manifest.get("best", {}))
            if self.best:
                self.best |= {"step": int(self.best["step"]), "value": float(self.best["value"])}
            period = checkpoint.manifest.get("period", {})
            self.period = Period(float(period.get("total", 0.0)), int(period.get("steps", 0)))
            self.chosen = dict(checkpoint.manifest.get("chosen", {}))
            int(self.chosen.get("micro_batch_size") or 0)

    def choose_best_by(self, measured_by: str | None) -> None:
        """Forget a best checkpoint that was chosen by another metric: the values cannot be compared."""
        old = self.best.get("by", measured_by)
        if measured_by is not None and old != measured_by:
            step = self.best["step"]
            log.warning("forgetting the best checkpoint so far, step %d: it was chosen by %s", step, old)
            self.best = {}

    def _load_optimizer(self, memory: Mapping[str, Tensor]) -> None:
        state: dict[int, dict[str, Tensor]] = {}
        by_name = {name: (i, parameter) for i, (parameter, name) in enumerate(self._names.items())}
        for key, value in memory.items():
            name, _, field = key.rpartition(".")
            index, parameter = by_name[name]
            if value.shape == parameter.shape:  # fused kernels need moments in the memory format of their weights
                value = torch.empty_like(parameter).copy_(value)
            state.setdefault(index, {})[field] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
