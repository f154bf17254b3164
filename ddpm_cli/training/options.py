"""The options of `ddpm train`, checked once; see conf/train.yaml."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from torch.optim import Optimizer

from ..build import Node, check_seed
from ..data.source import Source
from ..diffusion.guidance import Guidance, Unguided
from ..diffusion.samplers import Sampler
from ..diffusion.schedule import Schedule
from ..errors import ConfigError
from ..objectives.base import Objective
from ..runs.loggers import LoggerChoice, choices_of
from ..sampling.run_guidance import in_training
from ..sampling.run_sampler import without_run
from ..text import NameText, PathText
from .plan import Plan


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """The keys of conf/train.yaml. `weighting` and `times` are unused: the objective has its own copies.

    Raises:
        ConfigError: a value out of range, a logger that cannot be built.
    """

    seed: int
    run_dir: PathText
    resume: bool | PathText
    objective: Objective
    optimizer: Callable[..., Optimizer]
    schedule: Schedule
    weighting: Node
    times: Node
    sampler: Sampler
    trainer: Plan
    model: Node
    dataset: Source
    guidance: Guidance = field(default_factory=Unguided)
    logger: Mapping[str, Node] = field(default_factory=dict)
    trust: list[NameText] = field(default_factory=list)
    debug: bool = False

    def __post_init__(self) -> None:
        check_seed(self.seed)
        object.__setattr__(self, "sampler", without_run(self.sampler))
        object.__setattr__(self, "guidance", in_training(self.guidance))
        if self.run_dir == "":
            raise ConfigError("run_dir: is empty; name a directory, or leave it out")
        _ = self.loggers

    @cached_property
    def loggers(self) -> dict[str, LoggerChoice]:
        return choices_of(self.logger)
