"""How a request leans a model towards a class: the guidance, with its classifier loaded where it needs one."""

from collections.abc import Collection
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal, Protocol

from ..diffusion.guidance import ByClassifier, ClassifierFree, Guidance, Unguided, check_interval, check_scale
from ..diffusion.schedule import Schedule
from ..errors import ConfigError
from ..hardware.runtime import Runtime
from .classifier import LoadedClassifier, load_classifier

NAMES: dict[type, str] = {Unguided: "none", ClassifierFree: "cfg"}


@dataclass(frozen=True)
class ClassifierGuidance:
    """`ByClassifier` whose classifier is still to be loaded.

    Args:
        classifier: its run directory, checkpoints directory or one file.
        reads: x_t, or the x0 estimate; auto = what it was trained on.
        scale, interval: see `ByClassifier`.

    Raises:
        ValueError: a scale that is no number, an interval that is not within [0, 1].
    """

    classifier: str
    reads: Literal["auto", "noisy", "clean"] = "auto"
    scale: float = 1.0
    interval: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        check_scale(self.scale)
        check_interval(self.interval)


class Guided(Protocol):
    """What a guidance must know of the model that it leans."""

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
    """`class_names` are those that labels may name: the classifier's where there is one."""

    guidance: Guidance
    facts: dict[str, Any]
    class_names: tuple[str, ...] | None = None

    @property
    def plain(self) -> bool:
        """Whether it leaves the model as it is."""
        return self.facts["name"] == "none"


def ready(chosen: Guidance | ClassifierGuidance, model: Guided) -> ReadyGuidance:
    """What was chosen, checked against the model.

    Raises:
        ConfigError: no classes or no training for it, a classifier that was made for something else.
        CheckpointError: the classifier's checkpoint is missing, damaged or no classifier.
    """
    if isinstance(chosen, ClassifierGuidance):
        return _by_classifier(chosen, model)
    if isinstance(chosen, ClassifierFree):
        if not model.conditional:
            raise ConfigError("guidance: cfg needs a model that knows classes; use guidance=none")
        if chosen.scale != 1 and not model.label_dropout:
            raise ConfigError(
                "guidance: this model never saw an image without its class; train with objective.label_dropout=0.1"
            )
    name = NAMES.get(type(chosen), f"{type(chosen).__module__}.{type(chosen).__name__}")
    return ReadyGuidance(chosen, {"name": name} | settings(chosen))


def settings(value: Any) -> dict[str, Any]:
    """The fields of a sampler or a guidance as plain values, for sample.json."""
    named = [f.name for f in fields(value)] if is_dataclass(value) else list(getattr(value, "__dict__", {}))
    found = {name: getattr(value, name) for name in named}
    return {name: list(v) if isinstance(v, tuple) else v for name, v in found.items()}


def _by_classifier(chosen: ClassifierGuidance, model: Guided) -> ReadyGuidance:
    found = load_classifier(chosen.classifier, model.runtime, model.trusted)
    _check(found, model)
    trained: Literal["noisy", "clean"] = "noisy" if found.noisy else "clean"
    if chosen.reads not in ("auto", trained):
        raise ConfigError(f"guidance.reads: this classifier was trained on {trained} images; use auto or {trained}")
    guidance = ByClassifier(found.network, trained, chosen.scale, chosen.interval)
    facts = {"name": "classifier"} | settings(chosen) | {"reads": trained, "classifier_sha256": found.digest}
    return ReadyGuidance(guidance, facts, found.class_names)


def _check(found: LoadedClassifier, model: Guided) -> None:
    """Raises ConfigError unless it classifies what the model draws."""
    if found.shape != model.shape:
        one, other = ("x".join(map(str, shape)) for shape in (found.shape, model.shape))
        raise ConfigError(f"guidance.classifier: takes images of {one}, the model draws {other}; train one on these")
    if found.noisy and found.schedule != model.schedule:
        raise ConfigError(
            "guidance.classifier: was trained with another noise schedule than the model; "
            "train it with the model's, or on clean images (objective.noisy=false)"
        )
    if model.conditional and tuple(found.class_names) != tuple(model.class_names):
        one, other = (", ".join(names[:5]) for names in (found.class_names, model.class_names))
        raise ConfigError(
            f"guidance.classifier: knows {len(found.class_names)} classes ({one}, ...), "
            f"the model {len(model.class_names)} ({other}, ...); train both on the same dataset"
        )
