"""An opened run of a classifier."""

from collections.abc import Callable, Collection
from typing import cast

import torch
from torch import Tensor

from ..build import check_positive, checked
from ..data.images import Images, to_float
from ..diffusion.classifier import NoisyClassifier, of_clean
from ..diffusion.schedule import Schedule
from ..errors import CheckpointError
from ..hardware.runtime import Runtime
from ..models.classifier_layers import Classifier
from ..objectives.classify import Classify
from ..progress import Progress, silent
from ..runs.checkpoint import Checkpoint
from ..runs.load import LoadedRun, RunModel, Weights, load


class LoadedClassifier(LoadedRun):
    """noisy: whether its inputs are x_t of `schedule` and t; otherwise they are clean images."""

    name = "a classifier"

    def __init__(self, run: RunModel):
        super().__init__(run)
        self.network = cast(Classifier, run.module)
        self.noisy = cast(Classify, run.spec.objective).noisy
        self.schedule: Schedule = run.spec.schedule
        self.digest = "" if run.checkpoint is None else str(run.checkpoint.manifest["sha256"])

    @checked
    def probabilities(self, images: Images, batch_size: int = 64, progress: Progress = silent) -> Tensor:
        """(N,K) float64 for clean images; a classifier of noisy images gets the noise level 0."""
        check_positive(batch_size=batch_size)
        model = NoisyClassifier(self.network, self.schedule)
        parts: list[Tensor] = []
        with torch.no_grad():
            for batch in images.chunks(batch_size, self.runtime.device):
                zero = torch.zeros(len(batch.x), device=self.runtime.device)
                logits = model(batch.x, torch.zeros_like(batch.x), zero) if self.noisy else model.clean(batch.x)
                parts.append(logits.cpu().double().softmax(1))
                progress("classifying", sum(map(len, parts)), len(images))
        return torch.cat(parts)

    def features_of(self, pixels: Tensor) -> Tensor:
        """(B,C,H,W) uint8 on the device -> (B,F), the inputs of the last layer."""
        return self.network.features(to_float(pixels))

    def logits_of(self, pixels: Tensor) -> Tensor:
        """(B,C,H,W) uint8 on the device -> (B,K)."""
        return of_clean(cast(Callable[..., Tensor], self.network), to_float(pixels))


def load_classifier(
    ckpt: str | Checkpoint, runtime: Runtime, trust: Collection[str], weights: Weights = "ema"
) -> LoadedClassifier:
    """The classifier at `ckpt`, on the device and in the precision of `runtime`.

    Raises:
        CheckpointError: it is missing, damaged or not a classifier.
    """
    run = load(ckpt, weights=weights, runtime=runtime, trust=tuple(trust))
    if not isinstance(run, LoadedClassifier):
        raise CheckpointError(f"{run.path}: is not a classifier; train one with model=unet_classifier")
    return run
