"""Everything that the metrics of samples look at, made once and only when asked for."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from ..data.images import Images
from ..errors import ConfigError
from ..metrics.resample import Estimate, bootstrap
from ..progress import Progress
from ..runs.images import shuffled
from .features import Extractor
from .samples import Drawn


@dataclass(frozen=True)
class Options:
    """See conf/eval.yaml. Raises ValueError for a number out of range, named first."""

    resamples: int
    neighbours: int
    cas_steps: int

    def __post_init__(self) -> None:
        for name, value, least in (
            ("resamples", self.resamples, 0),
            ("neighbours", self.neighbours, 1),
            ("cas.steps", self.cas_steps, 1),
        ):
            if value < least:
                raise ValueError(f"{name}: must be at least {least}, got {value}")


@dataclass(frozen=True)
class Case:
    """Samples, the real images they are held against, and whose eyes see both.

    Args:
        real: held-out images of the split, with labels.
        train: all training images.
        unseen: all images that were held out of training, whatever the split is; may be empty.
        split: where `real` is from. With `train`, other training images are no measure of how good real ones are.
    """

    samples: Drawn
    real: Images
    train: Images
    unseen: Images
    split: str
    extractor: Extractor | None
    options: Options
    batch_size: int
    seed: int
    progress: Progress

    @property
    def eyes(self) -> Extractor:
        """Raises ConfigError when the metric needs features and there are none."""
        if self.extractor is None:
            raise ConfigError("features: is needed for this metric; set features=RUN of a classifier, or inception")
        return self.extractor

    @cached_property
    def control(self) -> Images | None:
        """As many real training images as there are samples, None when there are not: what to hope for.

        A classifier that was trained on them may see them with more confidence than any new image.
        """
        n = len(self.samples.pixels)
        if self.split == "train" or len(self.train) < n:
            return None
        return self.train.subset(shuffled(len(self.train), self.seed)[:n])

    @cached_property
    def sample_features(self) -> Tensor:
        return self._features(self.samples.pixels, "samples")

    @cached_property
    def real_features(self) -> Tensor:
        return self._features(self.real.pixels, "real images")

    @cached_property
    def control_features(self) -> Tensor | None:
        return None if self.control is None else self._features(self.control.pixels, "training images")

    def probabilities(self, pixels: Tensor, what: str) -> Tensor:
        return self.eyes.probabilities_of(pixels, self.batch_size, self.progress, what)

    def bootstrap(self, statistic: Callable[..., float], *sets: Tensor) -> Estimate:
        return bootstrap(statistic, *sets, resamples=self.options.resamples, seed=self.seed)

    def _features(self, pixels: Tensor, what: str) -> Tensor:
        return self.eyes.features_of(pixels, self.batch_size, self.progress, what)
