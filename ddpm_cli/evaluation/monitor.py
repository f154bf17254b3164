"""Evaluation while a model trains: the Frechet distance of a few samples, for trainer.features and best_by."""

from collections.abc import Callable, Sequence

from torch import Tensor

from ..data.images import Images
from ..errors import CheckpointError, ConfigError
from ..metrics.frechet import frechet_distance
from ..progress import silent
from ..training.plan import Plan
from .extractor import check_shape, load_extractor

BATCH = 64


def monitor(plan: Plan, held_out: Images, trust: Sequence[str]) -> Callable[[Tensor], dict[str, float]]:
    """A function that measures the Frechet distance of samples (N,C,H,W) uint8 to `held_out`, as {"fd": distance}.

    Raises:
        CheckpointError, ConfigError: the features cannot be used here.
    """
    assert plan.features is not None
    try:
        extractor = load_extractor(plan.features, plan.device, trust)
    except (CheckpointError, ConfigError) as error:
        raise type(error)(f"trainer.{error}" if str(error).startswith("features:") else str(error)) from error
    check_shape(extractor, held_out.shape, "trainer.features")
    real: list[Tensor] = []

    def features(pixels: Tensor, what: str) -> Tensor:
        return extractor.features_of(pixels, BATCH, silent, what)

    def measure(samples: Tensor) -> dict[str, float]:
        if not real:
            real.append(features(held_out.pixels, "held-out images"))
        return {"fd": frechet_distance(real[0], features(samples, "samples"))}

    return measure
