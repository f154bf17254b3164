"""What the best checkpoint of a classifier is worth, measured once its run is done."""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ..console import note
from ..data.images import Images
from ..data.source import Source
from ..errors import CheckpointError
from ..files import shown
from ..objectives.base import Objective
from ..objectives.classify import Classify
from ..progress import Progress
from ..runs import checkpoint
from ..runs.directory import Run
from .plan import Plan
from .state import TrainState, load_weights, part
from .validation import validation_loss

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Verdict:
    """Accuracies of the best checkpoint, not the last, on all held-out images and on all official test images.

    Args:
        images: by split: `val`, and `test` where the set has test pictures that did not choose the checkpoint.
        chosen_by_test: the held-out images are the official test pictures.
    """

    objective: Objective
    plan: Plan
    images: dict[str, Images]
    chosen_by_test: bool = False

    def due(self, folder: Path, state: TrainState) -> bool:
        """Whether the run has a best checkpoint and no row yet that says what it is worth."""
        wanted = self.plan.best_by is not None and isinstance(self.objective, Classify) and "step" in state.best
        return wanted and not _has_row(folder / "metrics.jsonl", state.step)

    def __call__(self, place: Run, state: TrainState, wrap: Callable[[nn.Module], nn.Module]) -> None:
        """Append the row to the metrics and tell the user, when due. The best weights replace those of `state`."""
        if not self.due(place.folder, state):
            return
        step = int(state.best["step"])
        try:
            best = checkpoint.load(place.checkpoints / f"{checkpoint.name_of(step)}.json")
        except CheckpointError as error:  # the run itself is whole
            log.warning("the best checkpoint cannot be judged: %s", error)
            return
        tensors = best.tensors("ema.") or best.tensors("model.")
        load_weights(state.weights, part(tensors, "ema.") or part(tensors, "model."), str(best.path))
        model, row = wrap(state.weights), dict[str, Any](best_step=step)
        for split, images in self.images.items():
            row |= validation_loss(self.objective, model, images, self.plan.batch_size, split)
        place.metrics(state.step, row | {"seconds": round(state.seconds, 3)})
        said = [f"{split} accuracy {row[f'{split}_accuracy']:.4f} (n={len(x):,})" for split, x in self.images.items()]
        note(f"{shown(best.path)}, the best by {self.plan.best_by}: {', '.join(said)}")
        if self.chosen_by_test:
            note("these are the test images, and they also chose the checkpoint: dataset.val_fraction=0.1 is fairer")


def verdict_of(
    objective: Objective, plan: Plan, source: Source, validation: Images, progress: Progress | None
) -> Verdict:
    """Load what it needs before training begins: the run may end hours later.

    Raises:
        DataError: the test pictures are missing or damaged.
    """
    images, has_test = {"val": validation}, bool(getattr(source, "has_test", False))
    official = has_test and source.val_fraction is None
    if plan.best_by and isinstance(objective, Classify) and has_test and not official:
        images["test"] = source.load("test", progress)
    return Verdict(objective, plan, images, official)


def _has_row(path: Path, step: int) -> bool:
    """Whether the run was judged at `step` already."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and row.get("step") == step and "best_step" in row:
            return True
    return False
