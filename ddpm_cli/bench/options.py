"""The options shared by all benchmarks of a composed config; see conf/what."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from torch.optim import Optimizer

from ..build import Node, check_seed
from ..data.source import Source
from ..diffusion.samplers import Sampler
from ..diffusion.schedule import Schedule
from ..objectives.base import Objective
from ..runs.loggers import LoggerChoice, choices_of
from ..sampling.run_sampler import RunSampler, without_run
from ..text import NameText, PathText
from ..training.plan import Plan
from .windows import Stopwatch


@dataclass(frozen=True, kw_only=True)
class ComposedOptions:
    """A config of `ddpm train`, and how often and how long it is measured.

    Raises:
        ValueError: a number out of range; the message starts with its key.
        ConfigError: a logger that cannot be built.
    """

    objective: Objective
    optimizer: Callable[..., Optimizer]
    schedule: Schedule
    weighting: Node
    times: Node
    sampler: Sampler | RunSampler
    guidance: Node
    trainer: Plan
    model: Node
    dataset: Source
    windows: int
    seconds: float
    warmup: float
    seed: int
    logger: Mapping[str, Node] = field(default_factory=dict)
    out: PathText = ""
    trust: list[NameText] = field(default_factory=list)
    debug: bool = False

    def __post_init__(self) -> None:
        if self.windows < 1:
            raise ValueError(f"windows: must be at least 1, got {self.windows}")
        if not 0 < self.seconds < float("inf"):
            raise ValueError(f"seconds: must be positive, got {self.seconds}")
        if not 0 <= self.warmup < float("inf"):
            raise ValueError(f"warmup: must be at least 0, got {self.warmup}")
        check_seed(self.seed)
        object.__setattr__(self, "sampler", without_run(self.sampler))
        _ = self.loggers

    @cached_property
    def loggers(self) -> dict[str, LoggerChoice]:
        return choices_of(self.logger)

    def stopwatch(self, synchronize: Callable[[], None]) -> Stopwatch:
        return Stopwatch(self.windows, self.seconds, self.warmup, synchronize)

    @property
    def timing(self) -> dict[str, float]:
        """The entries of bench.json on the windows."""
        return {"windows": self.windows, "seconds": self.seconds, "warmup": self.warmup}
