"""`ddpm train`: from its options to a finished run."""

from dataclasses import replace

from torch import nn

from ..build import locate
from ..errors import ConfigError
from ..files import shown
from ..hardware.runtime import choose_runtime
from ..models.unet_classifier import UNetClassifier
from ..ours import is_run
from ..runs.assemble import ModelSpec, network
from ..runs.directory import Reporter
from ..runs.families import family_of
from ..runs.job import Job
from ..runs.load import PACKAGE
from .finetune import adopted, find_source
from .options import TrainOptions
from .session import Monitor, Outcome, Session


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
    """Raises ConfigError if a U-Net has no level for one of `model.attention_resolutions`.

    Args:
        given: whether the user set them; only then it is an error for a classifier too, which can do without.
    """
    unused, levels = getattr(module, "unused_attention", ()), getattr(module, "levels", ())
    if unused and (given or not isinstance(module, UNetClassifier)):
        key = "model.attention_resolutions"
        raise ConfigError(
            f"{key}: there is no level of {unused[0]}; the levels are {', '.join(map(str, levels))}, so set for "
            f"example {key}=[{levels[len(levels) // 2]}], or [] for the middle only"
        )


def session_class(model: nn.Module) -> type[Session]:
    """The subclass that trains models of this kind."""
    cls = locate(family_of(model).trained, "model", {PACKAGE})
    assert isinstance(cls, type) and issubclass(cls, Session)
    return cls
