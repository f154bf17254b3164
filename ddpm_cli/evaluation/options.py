"""The options of `ddpm eval`, checked once; see conf/eval.yaml."""

from dataclasses import dataclass, field
from typing import Literal

from ..build import check_positive, check_seed
from ..data.source import Split
from ..diffusion.guidance import Guidance
from ..diffusion.samplers import Sampler
from ..hardware.options import Precision
from ..runs.load import Weights
from ..sampling.bits import BitsOptions
from ..sampling.guidance import ClassifierGuidance
from ..sampling.request import Prior
from ..sampling.run_guidance import RunGuidance
from ..sampling.run_sampler import RunSampler
from ..text import NameText, PathText


@dataclass(frozen=True)
class CasOptions:
    """The keys under `cas`. Raises ValueError for a number out of range."""

    steps: int

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps: must be at least 1, got {self.steps}")


@dataclass(frozen=True, kw_only=True)
class EvalOptions:
    """The keys of conf/eval.yaml. Raises ValueError or ConfigError, which name the key, for a number out of range."""

    sampler: Sampler | RunSampler
    guidance: Guidance | ClassifierGuidance | RunGuidance
    ckpt: PathText | None
    samples: PathText | None
    features: PathText | None
    metrics: list[str] | str
    split: Split
    n: int | Literal["auto"] | None
    real: int | None
    batch_size: int
    seed: int
    prior: Prior
    root: PathText | None
    resamples: int
    neighbours: int
    cas: CasOptions
    bpd: BitsOptions
    weights: Weights
    device: str
    precision: Precision
    tensorboard: bool
    out: PathText = ""
    trust: list[NameText] = field(default_factory=list)
    debug: bool = False

    def __post_init__(self) -> None:
        check_seed(self.seed)
        counts = (("n", self.n), ("real", self.real), ("batch_size", self.batch_size))
        check_positive(**{name: value for name, value in counts if isinstance(value, int)})
        for name, value, least in (("resamples", self.resamples, 0), ("neighbours", self.neighbours, 1)):
            if value < least:
                raise ValueError(f"{name}: must be at least {least}, got {value}")

    def count(self, auto: int | None) -> int | None:
        """The value of n, where "auto" means `auto`; None = all."""
        return auto if self.n == "auto" else self.n
