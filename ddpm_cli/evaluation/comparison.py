"""The inputs of the metrics of samples, computed once and only when needed."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from ..data.images import Images
from ..errors import ConfigError
from ..metrics.resample import Estimate, bootstrap
from ..progress import Progress
from ..runs.images import shuffled
from .extractor import Extractor
from .options import EvalOptions
from .samples import SampleSet


@dataclass(frozen=True)
class Comparison:
    """Samples, the real images that they are compared with, and the feature extractor for both.

    Args:
        real: images of the split, with labels.
        train: all training images.
        unseen: all images that were held out of training, whatever the split is; may be empty.
        chosen: the extractor that the user named, or None.
    """

    samples: SampleSet
    real: Images
    train: Images
    unseen: Images
    chosen: Extractor | None
    options: EvalOptions
    progress: Progress

    @property
    def extractor(self) -> Extractor:
        """Raises ConfigError when the metric needs features and there are none."""
        if self.chosen is None:
            raise ConfigError("features: required for this metric; set features=RUN of a classifier, or inception")
        return self.chosen

    @cached_property
    def control(self) -> Images | None:
        """As many real training images as there are samples: with them, metrics have the best value to expect.

        None when there are too few. Also None for split=train: then both sets are training images, and a classifier
        trained on these may be more confident on them than on any new image.
        """
        n = len(self.samples.pixels)
        if self.options.split == "train" or len(self.train) < n:
            return None
        return self.train.subset(shuffled(len(self.train), self.options.seed)[:n])

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
        return self.extractor.probabilities_of(pixels, self.options.batch_size, self.progress, what)

    def bootstrap(self, statistic: Callable[..., float], *sets: Tensor) -> Estimate:
        return bootstrap(statistic, *sets, resamples=self.options.resamples, seed=self.options.seed)

    def _features(self, pixels: Tensor, what: str) -> Tensor:
        return self.extractor.features_of(pixels, self.options.batch_size, self.progress, what)
