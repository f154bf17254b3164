"""The options of `ddpm train`, checked once; see conf/train.yaml."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from torch.optim import Optimizer

from ..build import Node, check_seed
from ..data.source import Source
from ..diffusion.guidance import Guidance, Unguided
from ..diffusion.samplers import Sampler
from ..diffusion.schedule import Schedule
from ..errors import ConfigError
from ..objectives.base import Objective
from ..runs.job import Job
from ..runs.loggers import LoggerChoice, choices_of
from ..sampling.guidance import ClassifierGuidance
from ..sampling.run_guidance import RunGuidance, in_training
from ..sampling.run_sampler import RunSampler, without_run
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
    finetune: PathText | None
    objective: Objective
    optimizer: Callable[..., Optimizer]
    schedule: Schedule
    weighting: Node
    times: Node
    sampler: Sampler | RunSampler
    trainer: Plan
    model: Node
    dataset: Source
    guidance: Guidance | ClassifierGuidance | RunGuidance = field(default_factory=Unguided)
    logger: Mapping[str, Node] = field(default_factory=dict)
    trust: list[NameText] = field(default_factory=list)
    sweep_metric: NameText | None = None
    debug: bool = False

    def __post_init__(self) -> None:
        check_seed(self.seed)
        object.__setattr__(self, "sampler", without_run(self.sampler))
        object.__setattr__(self, "guidance", in_training(self.guidance))
        if self.run_dir == "":
            raise ConfigError("run_dir: is empty; name a directory, or leave it out")
        if self.finetune == "":
            raise ConfigError("finetune: is empty; name a run, or leave it out")
        if self.finetune is not None and isinstance(self.resume, str):
            raise ConfigError("finetune: cannot be combined with resume=PATH; set only one of them")
        _ = self.loggers

    @cached_property
    def loggers(self) -> dict[str, LoggerChoice]:
        return choices_of(self.logger)


def rate_of(config: Mapping[str, Any]) -> dict[str, float]:
    """The learning rate of the config, as an argument for its optimizer, if it has one."""
    rate = config["optimizer"].get("lr")
    return {} if rate is None else {"lr": float(rate)}


def plan_of(options: TrainOptions, job: Job) -> Plan:
    """The plan of the run: steps or seconds that the user sets replace a budget that he did not set.

    Raises:
        ConfigError: the user set both.
    """
    plan = options.trainer
    if plan.budget is not None and job.sets("trainer.max_seconds") and not job.sets("trainer.budget"):
        plan = replace(plan, budget=plan.limit)
    steps = next((key for key in ("trainer.steps", "trainer.epochs") if job.sets(key)), None)
    if plan.budget is None or steps is None or getattr(plan, steps.partition(".")[2]) is None:
        return plan
    if job.sets("trainer.budget"):
        raise ConfigError(f"{steps}: cannot be combined with trainer.budget, which decides it; set only one of them")
    return replace(plan, budget=None)
