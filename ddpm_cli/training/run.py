"""`ddpm train`: from its options to a finished run."""

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
from ..runs.misfits import NO_MODEL, understood
from .finetune import adopted, find_source
from .options import TrainOptions
from .session import Monitor, Outcome, Session
from .setup import missing_attention


def run_session(options: TrainOptions, job: Job, reporter: Reporter, monitor: Monitor) -> Outcome:
    """Train a model as the options say, in the job's folder. Everything is checked before the first file is written.

    Raises:
        DdpmError: anything that is wrong, as one line.
        Stopped: a signal arrived; the run is saved.
    """
    source = find_source(options)
    if source is not None:
        with understood(source.manifest_path, NO_MODEL):
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
    """Raises ConfigError if the user set `model.attention_resolutions` and the network has no level for one of them."""
    if given and (line := missing_attention(module)):
        raise ConfigError(line)


def session_class(model: nn.Module) -> type[Session]:
    """The subclass that trains models of this kind."""
    cls = locate(family_of(model).trained, "model", None)
    assert isinstance(cls, type) and issubclass(cls, Session)
    return cls
