"""Training a classifier: its graph is logged at the start, the accuracy of the best checkpoint at the end."""

import logging
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

from ..data.images import Images
from ..errors import CheckpointError
from ..files import override, shown
from ..progress import Progress
from ..runs import checkpoint
from ..runs.directory import RunDirectory
from ..runs.logs import row_of
from ..runs.misfits import load_weights
from ..runs.tensor_file import with_prefix
from .session import LiveRun, Session
from .state import TrainState
from .validation import validation_loss

log = logging.getLogger(__name__)


class ClassifierSession(Session):
    """With `trainer.best_by`, measures the accuracy of the best checkpoint, not the last, on all held-out images, and
    also on all official test images unless these chose the checkpoint.
    """

    name = "a classifier"

    @property
    def unused(self) -> tuple[str, ...]:
        noisy = getattr(self.spec.objective, "noisy", False)
        return ("weighting", "sampler", "guidance", *(() if noisy else ("schedule", "times")))

    def load(self, validation: Images, progress: Progress) -> None:
        """Raises DataError when the test images are missing or damaged."""
        source, self.images = self.options.dataset, {"val": validation}
        has_test = bool(getattr(source, "has_test", False))  # optional for a user's own dataset class
        self.chosen_by_test = has_test and source.val_fraction is None
        if self.plan.best_by and has_test and not self.chosen_by_test:
            self.images["test"] = source.load("test", progress)

    def started(self, directory: RunDirectory, state: TrainState, images: Images) -> None:
        directory.graph(state.module, images.shape)

    def pending(self, state: TrainState) -> bool:
        """Whether the run has a best checkpoint whose accuracy is not in metrics.jsonl yet."""
        has_best = self.plan.best_by is not None and "step" in state.best
        return has_best and not _has_row(self.folder / "metrics.jsonl", state.step)

    def complete(self, directory: RunDirectory, state: TrainState, live: LiveRun) -> None:
        """Append that row to metrics.jsonl and a note, if pending; save again, so that a digest covers the row."""
        if not self.pending(state):
            return
        step = int(state.best["step"])
        try:
            best = checkpoint.load(directory.checkpoints / f"{checkpoint.name_of(step)}.json")
        except CheckpointError as error:  # the run itself is complete
            log.warning("cannot evaluate the best checkpoint: %s", error)
            return
        tensors = best.tensors("ema.") or best.tensors("model.")
        weights = with_prefix(tensors, "ema.") or with_prefix(tensors, "model.")
        module = deepcopy(state.weights)
        load_weights(module, weights, str(best.path))
        model, row = self.spec.wrap(module), cast(dict[str, Any], {"best_step": step})
        for split, images in self.images.items():
            row |= validation_loss(self.spec.objective, model, images, self.plan.batch_size, split)
        directory.metrics(state.step, row | {"seconds": round(state.seconds, 3)})
        directory.save(state, self.plan.keep_last, self.plan.best_by)
        parts = [f"{split} accuracy {row[f'{split}_accuracy']:.4f} (n={len(x):,})" for split, x in self.images.items()]
        self.notes.append(f"best checkpoint by {self.plan.best_by}, {shown(best.path)}: {', '.join(parts)}")
        if self.chosen_by_test:
            self.notes.append(
                "the accuracy is optimistic: the test images also chose the checkpoint; "
                "train with dataset.val_fraction=0.1 to avoid this"
            )

    def next_step(self) -> str:
        guide = override("guidance.classifier", shown(self.folder))
        return f"evaluate it with ddpm eval {self.ckpt}, or guide with guidance=classifier {guide}"


def _has_row(path: Path, step: int) -> bool:
    """Whether the best checkpoint was already evaluated when the run was at `step`."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []:
        row = row_of(line)
        if row is not None and row.get("step") == step and "best_step" in row:
            return True
    return False
