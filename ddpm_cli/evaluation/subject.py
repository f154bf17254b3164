"""What is evaluated (a generator, a classifier, or samples from files), and by which metrics."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..build import suggest
from ..errors import ConfigError
from ..runs.images import TrainedOn
from ..runs.load import LoadedRun, load
from ..sampling.classifier import LoadedClassifier
from ..sampling.generator import Generator
from .extractor import Extractor, check_shape, load_extractor
from .options import EvalOptions
from .sample_metrics import METRICS

EVERY = (*METRICS, "bpd", "accuracy")
NEWEST = "outputs/latest"


@dataclass(frozen=True)
class Subject:
    """At most one of `generator` and `classifier` is set; neither if only samples are given.

    Args:
        data: the run whose dataset is used.
        facts: facts about the checkpoint, for eval.json.
    """

    generator: Generator | None
    classifier: LoadedClassifier | None
    extractor: Extractor | None
    data: TrainedOn
    facts: dict[str, Any]

    @property
    def model(self) -> str | None:
        """The class of the network, for example "UNet"."""
        if self.generator is None and self.classifier is None:
            return None
        return str(self.data.config["model"].get("_target_", "")).rpartition(".")[2]


def load_subject(options: EvalOptions) -> Subject:
    """Load the subject that the options name.

    Raises:
        CheckpointError: a checkpoint is missing or damaged, or `features` is not a classifier.
        ConfigError: incompatible options.
    """
    extractor = None
    if options.features is not None:
        extractor = load_extractor(options.features, options.device, options.trust)
    if options.samples is not None and options.ckpt is None:
        if extractor is None or extractor.classifier is None:
            raise ConfigError("ckpt: required to find the dataset; set ckpt=RUN, or features=RUN of a classifier")
        return Subject(None, None, extractor, extractor.classifier, {})
    run = load(
        NEWEST if options.ckpt is None else options.ckpt,
        weights=options.weights, device=options.device, precision=options.precision, trust=options.trust,
    )  # fmt: skip
    return _subject(run, extractor, options)


def _subject(run: LoadedRun, extractor: Extractor | None, options: EvalOptions) -> Subject:
    if isinstance(run, LoadedClassifier):
        for key in ("samples", "features"):
            if getattr(options, key) is not None:
                raise ConfigError(f"{key}: cannot be used with a classifier, and {run.path} is one; leave it out")
        return Subject(None, run, None, run, run.facts)
    if not isinstance(run, Generator):
        raise ConfigError(
            f"ckpt: {run.path} is {run.name}, which cannot be evaluated; name a generative model or a classifier"
        )
    if extractor is not None:
        check_shape(extractor, run.shape, "features")
    return Subject(run, None, extractor, run, run.facts)


def chosen_metrics(metrics: Sequence[str] | str, subject: Subject, given: bool) -> list[str]:
    """The metrics to compute, without duplicates.

    Args:
        metrics: their names, one name, or "auto".
        given: whether the samples come from files.

    Raises:
        ConfigError: an unknown metric, none at all, or one that cannot be measured for the subject.
    """
    if metrics == "auto":
        return _auto(subject, given)
    metrics = [metrics] if isinstance(metrics, str) else list(metrics)
    if not metrics:
        raise ConfigError(f"metrics: is empty; choose from {', '.join(EVERY)}, or set metrics=auto")
    for metric in metrics:
        if metric not in EVERY:
            raise ConfigError(f"metrics: there is no {metric!r}{suggest(metric, EVERY)}")
        if metric == "accuracy" and subject.classifier is None:
            raise ConfigError("metrics: accuracy needs a classifier; set ckpt=RUN of a classifier")
        if metric != "accuracy" and subject.classifier is not None:
            raise ConfigError(f"metrics: {metric} cannot be measured for a classifier; use metrics=[accuracy]")
        if metric == "bpd" and subject.generator is None:
            raise ConfigError("metrics: bpd needs a model; set ckpt=RUN")
        if metric in METRICS and METRICS[metric].features and subject.extractor is None:
            raise ConfigError(f"metrics: {metric} needs features; set features=RUN of a classifier, or inception")
    return list(dict.fromkeys(metrics))


def _auto(subject: Subject, given: bool) -> list[str]:
    if subject.classifier is not None:
        return ["accuracy"]
    if subject.extractor is not None:
        return [name for name, metric in METRICS.items() if metric.automatic]
    return [name for name, metric in METRICS.items() if not metric.features] if given else ["bpd"]
