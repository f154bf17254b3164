"""`ddpm train`: from its options to a finished run."""

import logging
from dataclasses import replace

from torch import nn

from ..build import locate
from ..errors import ConfigError
from ..files import shown
from ..hardware.runtime import choose_runtime
from ..ours import is_run
from ..runs.assemble import ModelSpec, network
from ..runs.directory import Reporter
from ..runs.families import family_of
from ..runs.job import Job
from ..runs.load import PACKAGE
from .finetune import adopted, find_source
from .options import TrainOptions
from .session import Monitor, Outcome, Session

log = logging.getLogger(__name__)


def run_session(options: TrainOptions, job: Job, reporter: Reporter, monitor: Monitor) -> Outcome:
    """Train a model as the options say, in the job's folder. Everything is checked before the first file is written.

    Raises:
        DdpmError: anything that is wrong, as one line.
        Stopped: a signal arrived; the run is saved.
    """
    source = find_source(options)
    if source is not None:
        options, job = adopted(options, job, source)
    plan = options.trainer
    runtime = choose_runtime(plan.device, plan.precision, "trainer.device", "trainer.precision")
    spec = ModelSpec(options.objective, options.schedule, runtime)
    config = {**job.config, "run_dir": shown(job.folder)}  # in a sweep, every job has its own
    module = network(config)
    if source is None and not is_run(job.folder):
        check_attention(module, job.sets("model.attention_resolutions"))
    model = spec.wrap(module)
    session = session_class(model)(options, replace(job, config=config), spec, model)
    session.source = source
    return session.run(reporter, monitor)


def check_attention(module: nn.Module, given: bool) -> None:
    """Log a line if the network has no level for one of `model.attention_resolutions`.

    Args:
        given: whether the user set them, and not the choice of the network.

    Raises:
        ConfigError: the user set them.
    """
    unused, levels = getattr(module, "unused_attention", ()), getattr(module, "levels", ())
    if not unused:
        return
    key, sides = "model.attention_resolutions", ", ".join(map(str, levels))
    text = f"{key}: there is no level of {unused[0]}; the levels are {sides}"
    advice = f"set for example {key}=[{levels[len(levels) // 2]}], or [] for none"
    if given:
        raise ConfigError(f"{text}, so {advice}")
    log.warning("%s, so the network has less attention than usual; %s", text, advice)


def session_class(model: nn.Module) -> type[Session]:
    """The subclass that trains models of this kind."""
    cls = locate(family_of(model).trained, "model", {PACKAGE})
    assert isinstance(cls, type) and issubclass(cls, Session)
    return cls
