"""Who is judged: a generator, a classifier, or samples that somebody drew; and by which metrics."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..build import build, suggest
from ..errors import ConfigError
from ..hardware.options import Precision
from ..hardware.runtime import choose
from ..objectives.classify import Classify
from ..runs import checkpoint
from ..runs.checkpoint import Checkpoint
from ..runs.images import DataOf, Known
from ..runs.load import Loaded, LoadedClassifier, classifier_of
from ..sampling.generator import Direct, open_run
from .features import Extractor, check_shape, extractor_of
from .sample_metrics import JUDGES

OF_SAMPLES = (*JUDGES, "cas")
WITHOUT_FEATURES = ("memorisation",)
METRICS = (*OF_SAMPLES, "bpd", "accuracy")
NEWEST = "outputs/latest"


@dataclass(frozen=True)
class Subject:
    """At most one of `generator` and `classifier`; neither where samples are all there is.

    Args:
        known: what tells which data set.
        facts: of the checkpoint, for eval.json.
    """

    generator: Loaded | Direct | None
    classifier: LoadedClassifier | None
    extractor: Extractor | None
    known: Known
    facts: dict[str, Any]

    @property
    def model(self) -> str | None:
        """The class of its network, "UNet" say."""
        if self.generator is None and self.classifier is None:
            return None
        return str(self.known.config["model"].get("_target_", "")).rpartition(".")[2]


def subject_of(
    ckpt: str | None,
    samples: str | None,
    features: str | None,
    weights: Literal["ema", "raw"],
    device: str,
    precision: Precision,
    trust: Sequence[str],
) -> Subject:
    """Load what is named.

    Raises:
        CheckpointError: one that is missing or damaged, features of no classifier.
        ConfigError: what does not go together.
    """
    extractor = None if features is None else extractor_of(features, device, trust)
    if samples is not None and ckpt is None:
        if extractor is None or extractor.data is None:
            raise ConfigError("ckpt: is needed to know the data set; set ckpt=RUN, or features=RUN of a classifier")
        return Subject(None, None, extractor, extractor.data, {})
    found = checkpoint.find(NEWEST if ckpt is None else ckpt)
    trusted = {"ddpm_cli", *trust}
    objective = build(found.manifest["config"]["objective"], "objective", trust=trusted)
    if not isinstance(objective, Classify):
        loaded = open_run(found, weights, device, precision, trust)
        if extractor is not None:
            check_shape(extractor, loaded.shape, "features")
        return Subject(loaded, None, extractor, loaded, loaded.facts())
    if samples is not None or features is not None:
        what = "samples" if samples is not None else "features"
        raise ConfigError(f"{what}: are of no use to a classifier, which {found.path} is; leave them out")
    return _classifier(found, weights, device, precision, trust)


def _classifier(
    found: Checkpoint, weights: Literal["ema", "raw"], device: str, precision: Precision, trust: Sequence[str]
) -> Subject:
    loaded = classifier_of(found, trust, choose(device, precision), weights)
    known = DataOf(loaded.config, {"ddpm_cli", *trust}, loaded.shape)
    return Subject(None, loaded, None, known, dict(loaded.facts))


def chosen(metrics: list[str] | str, subject: Subject, given: bool) -> list[str]:
    """The metrics to compute, each once.

    Args:
        metrics: their names, one name, or "auto".
        given: the samples come from files.

    Raises:
        ConfigError: a metric that is not there, none, or one that does not suit the subject.
    """
    if metrics == "auto":
        return _auto(subject, given)
    metrics = [metrics] if isinstance(metrics, str) else metrics
    for metric in metrics or ["nothing"]:
        if metric not in METRICS:
            raise ConfigError(f"metrics: there is no {metric!r}{suggest(metric, METRICS)}")
        if (metric == "accuracy") != (subject.classifier is not None):
            kind = "a generator" if subject.classifier is None else "a classifier; use metrics=[accuracy]"
            raise ConfigError(f"metrics: {metric} does not suit {kind}")
        if metric == "bpd" and subject.generator is None:
            raise ConfigError("metrics: bpd needs a model; set ckpt=RUN")
        if metric in OF_SAMPLES and metric not in WITHOUT_FEATURES and subject.extractor is None:
            raise ConfigError(f"metrics: {metric} needs features; set features=RUN of a classifier, or inception")
    return list(dict.fromkeys(metrics))


def _auto(subject: Subject, given: bool) -> list[str]:
    if subject.classifier is not None:
        return ["accuracy"]
    if subject.extractor is not None:
        return list(JUDGES)
    return list(WITHOUT_FEATURES) if given else ["bpd"]
