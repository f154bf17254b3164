"""The guidance node -> the object that leans a model towards a class."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..build import Node, build, locate
from ..diffusion.guidance import ByClassifier, ClassifierFree, Guidance
from ..errors import ConfigError
from ..runs.load import Loaded, LoadedClassifier, classifier_of


@dataclass(frozen=True)
class Guided:
    """`class_names` are those that labels may name: the classifier's where there is one."""

    guidance: Guidance
    facts: dict[str, Any]
    class_names: tuple[str, ...] | None = None

    @property
    def plain(self) -> bool:
        """Whether it leaves the model as it is."""
        return self.facts["name"] == "none"


def guided(node: Node, loaded: Loaded, trust: Sequence[str]) -> Guided:
    """Build the node and check that it suits the model.

    Raises:
        ConfigError: no classes or no training for it, a classifier that was made for something else.
        CheckpointError: the classifier's checkpoint is missing, damaged or no classifier.
    """
    name = {"Unguided": "none", "ClassifierFree": "cfg", "ByClassifier": "classifier"}.get(
        str(node.get("_target_", "")).rpartition(".")[2], str(node.get("_target_"))
    )
    facts = {"name": name} | {k: v for k, v in node.items() if k != "_target_"}
    if locate(str(node.get("_target_")), "guidance._target_", None) is ByClassifier:
        return _by_classifier(node, loaded, trust, facts)
    guidance = build(node, "guidance")
    if isinstance(guidance, ClassifierFree):
        if not loaded.conditional:
            raise ConfigError("guidance: cfg needs a model that knows classes; use guidance=none")
        if guidance.scale != 1 and not loaded.label_dropout:
            raise ConfigError(
                "guidance: this model never saw an image without its class; train with objective.label_dropout=0.1"
            )
    return Guided(guidance, facts)


def _by_classifier(node: Node, loaded: Loaded, trust: Sequence[str], facts: dict[str, Any]) -> Guided:
    where, reads = node.get("classifier"), node.get("reads", "auto")
    if not isinstance(where, str) or where == "???":
        raise ConfigError("guidance.classifier: is required; set guidance.classifier=RUN of a classifier")
    found = classifier_of(where, trust, loaded.runtime)
    _check(found, loaded)
    trained = "noisy" if found.noisy else "clean"
    if reads not in ("auto", trained):
        raise ConfigError(f"guidance.reads: this classifier was trained on {trained} images; use auto or {trained}")
    options = {k: v for k, v in node.items() if k not in ("classifier", "reads")} | {"reads": trained}
    # build() converts and checks the rest; the module itself is no config value
    guidance = build({**options, "_partial_": True}, "guidance")
    try:
        made = guidance(classifier=found.module)
    except ValueError as error:
        raise ConfigError(f"guidance.{error}") from error
    return Guided(made, facts | {"reads": trained, "classifier_sha256": found.digest}, found.class_names)


def _check(found: LoadedClassifier, loaded: Loaded) -> None:
    """Raises ConfigError unless it classifies what the model draws."""
    if found.shape != loaded.shape:
        one, other = ("x".join(map(str, shape)) for shape in (found.shape, loaded.shape))
        raise ConfigError(f"guidance.classifier: takes images of {one}, the model draws {other}; train one on these")
    if found.noisy and found.schedule != loaded.model.schedule:
        raise ConfigError(
            "guidance.classifier: was trained with another noise schedule than the model; "
            "train it with the model's, or on clean images (objective.noisy=false)"
        )
    if loaded.conditional and tuple(found.class_names) != tuple(loaded.class_names):
        one, other = (", ".join(names[:5]) for names in (found.class_names, loaded.class_names))
        raise ConfigError(
            f"guidance.classifier: knows {len(found.class_names)} classes ({one}, ...), "
            f"the model {len(loaded.class_names)} ({other}, ...); train both on the same dataset"
        )
