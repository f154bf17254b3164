"""Prepares the guidance of a request: checks it against the model and loads its classifier if it needs one."""

import logging
from collections.abc import Collection
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal, Protocol

from ..diffusion.guidance import ByClassifier, ClassifierFree, Guidance, Unguided, check_interval, check_scale
from ..diffusion.schedule import Schedule
from ..errors import ConfigError
from ..hardware.runtime import Runtime
from ..text import PathText
from .classifier import LoadedClassifier, load_classifier

log = logging.getLogger(__name__)

NAMES: dict[type, str] = {Unguided: "none", ClassifierFree: "cfg"}


@dataclass(frozen=True)
class ClassifierGuidance:
    """`ByClassifier` with a classifier that is not loaded yet.

    Args:
        classifier: its run directory, checkpoints directory or one file.
        reads: noisy = x_t, clean = the x0 estimate; auto = what it was trained on.
        scale, interval: see `ByClassifier`.

    Raises:
        ValueError: a scale that is not finite, an interval that is not within [0, 1].
    """

    classifier: PathText | None
    reads: Literal["auto", "noisy", "clean"] = "auto"
    scale: float = 1.0
    interval: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        if self.classifier is None:
            raise ConfigError("guidance.classifier: is required; set guidance.classifier=RUN of a classifier")
        check_scale(self.scale)
        check_interval(self.interval)


class Guided(Protocol):
    """The properties of a model that its guidance depends on."""

    @property
    def conditional(self) -> bool: ...

    @property
    def label_dropout(self) -> float: ...

    @property
    def schedule(self) -> Schedule: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def class_names(self) -> tuple[str, ...]: ...

    @property
    def trusted(self) -> Collection[str]: ...

    @property
    def runtime(self) -> Runtime: ...


@dataclass(frozen=True)
class ReadyGuidance:
    """`class_names`: the classes that labels may name, those of the classifier if there is one."""

    guidance: Guidance
    facts: dict[str, Any]
    class_names: tuple[str, ...] | None = None

    @property
    def plain(self) -> bool:
        """Whether there is no guidance."""
        return self.facts["name"] == "none"


def ready(chosen: Guidance | ClassifierGuidance, model: Guided) -> ReadyGuidance:
    """The chosen guidance, checked against the model.

    Raises:
        ConfigError: the model was not trained for it, or the classifier does not fit the model.
        CheckpointError: the classifier's checkpoint is missing, damaged or not a classifier.
    """
    if isinstance(chosen, ClassifierGuidance):
        return _by_classifier(chosen, model)
    if isinstance(chosen, ClassifierFree):
        if not model.conditional:
            raise ConfigError("guidance: cfg needs a class-conditional model; use guidance=none")
        if chosen.scale != 1 and not model.label_dropout:
            raise ConfigError(
                "guidance: this model was trained without label dropout; train with objective.label_dropout=0.1"
            )
        if chosen.scale == 0:
            log.info("guidance.scale=0 draws without regard to the class; the labels stay in the files")
    name = NAMES.get(type(chosen), f"{type(chosen).__module__}.{type(chosen).__name__}")
    return ReadyGuidance(chosen, {"name": name} | settings(chosen))


def settings(value: Any) -> dict[str, Any]:
    """The fields of a sampler or a guidance as plain values, for sample.json."""
    names = [f.name for f in fields(value)] if is_dataclass(value) else list(getattr(value, "__dict__", {}))
    values = {name: getattr(value, name) for name in names}
    return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}


def _by_classifier(chosen: ClassifierGuidance, model: Guided) -> ReadyGuidance:
    assert chosen.classifier is not None
    classifier = load_classifier(chosen.classifier, model.runtime, model.trusted)
    _check(classifier, model)
    trained: Literal["noisy", "clean"] = "noisy" if classifier.noisy else "clean"
    if chosen.reads not in ("auto", trained):
        raise ConfigError(f"guidance.reads: this classifier was trained on {trained} images; use auto or {trained}")
    guidance = ByClassifier(classifier.network, trained, chosen.scale, chosen.interval)
    facts = {"name": "classifier"} | settings(chosen) | {"reads": trained, "classifier_sha256": classifier.digest}
    return ReadyGuidance(guidance, facts, classifier.class_names)


def _check(classifier: LoadedClassifier, model: Guided) -> None:
    """Raises ConfigError unless shape, noise schedule and classes of the classifier are those of the model."""
    if classifier.shape != model.shape:
        one, other = ("x".join(map(str, shape)) for shape in (classifier.shape, model.shape))
        raise ConfigError(
            f"guidance.classifier: takes images of {one}, but the model draws {other}; train both on the same dataset"
        )
    if classifier.noisy and classifier.schedule != model.schedule:
        raise ConfigError(
            "guidance.classifier: was trained with another noise schedule than the model; "
            "train it with the model's schedule, or on clean images (objective.noisy=false)"
        )
    if model.conditional and tuple(classifier.class_names) != tuple(model.class_names):
        one, other = (", ".join(names[:5]) for names in (classifier.class_names, model.class_names))
        raise ConfigError(
            f"guidance.classifier: knows {len(classifier.class_names)} classes ({one}, ...), "
            f"but the model knows {len(model.class_names)} ({other}, ...); train both on the same dataset"
        )
