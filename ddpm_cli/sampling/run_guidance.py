"""The guidance that a run itself was told to use."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ..diffusion.guidance import ClassifierFree, Guidance, Unguided
from ..errors import ConfigError
from .guidance import ClassifierGuidance
from .own_choice import build_own, own_node

SHIPPED = "ddpm_cli.diffusion.guidance"
RUN_GUIDANCE = f"{__name__}.RunGuidance"
NO_GUIDANCE = {"_target_": f"{SHIPPED}.Unguided"}
CLASSIFIER_FREE = f"{SHIPPED}.ClassifierFree"


@dataclass(frozen=True)
class RunGuidance:
    """The guidance in the config of the run that is sampled, with some of its options replaced. None = as the run.

    Args:
        scale, interval: see `ClassifierFree`, which is also used if one of them is set and the run has no guidance.
    """

    scale: float | None = None
    interval: tuple[float, float] | None = None

    @property
    def changes(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if value is not None}

    def node(self, config: Mapping[str, Any], classes: bool = True) -> dict[str, Any]:
        """The config node of the guidance.

        Args:
            config: of the run. Without guidance (an older run, or one trained with guidance=run) it is none.
            classes: whether the run can be guided: it is class-conditional, and was also trained without labels.
        """
        own = own_node(config, "guidance") or dict(NO_GUIDANCE)
        if own["_target_"] == RUN_GUIDANCE or (own["_target_"] == CLASSIFIER_FREE and not classes):
            own = dict(NO_GUIDANCE)
        if not self.changes:
            return own
        return (own if own["_target_"] != NO_GUIDANCE["_target_"] else {"_target_": CLASSIFIER_FREE}) | self.changes

    def of(self, config: Mapping[str, Any], classes: bool, trusted: Collection[str]) -> Guidance:
        """The guidance of a run.

        Args:
            config, classes: see `node`. The config is a stranger's data: its guidance must be one of this program or
                of a trusted package.

        Raises:
            ConfigError: the run's guidance lacks an option, does not accept its value, or is not trusted.
        """
        guidance: Guidance = build_own("guidance", self.node(config, classes), SHIPPED, trusted)
        return guidance


def in_training(guidance: "Guidance | ClassifierGuidance | RunGuidance") -> Guidance:
    """The guidance of the samples drawn during training, where guidance=run means none.

    Raises:
        ConfigError: guidance by a classifier.
    """
    if isinstance(guidance, ClassifierGuidance):
        raise ConfigError(
            "guidance: a classifier can guide ddpm sample, gif and eval, but not training; use guidance=cfg or none"
        )
    return Unguided() if isinstance(guidance, RunGuidance) else guidance


def usable(guidance: Guidance, classes: bool) -> Guidance:
    """No guidance in place of classifier-free guidance for a model that cannot be guided, see `RunGuidance.node`."""
    return Unguided() if isinstance(guidance, ClassifierFree) and not classes else guidance
