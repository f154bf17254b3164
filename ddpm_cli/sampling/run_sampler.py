"""The sampler that a run itself was told to use."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ..diffusion.editing import times_of
from ..diffusion.samplers import Sampler
from ..diffusion.schedule import Schedule
from ..diffusion.spacing import Spacing
from .own_choice import build_own, own_node

SHIPPED = "ddpm_cli.diffusion.samplers"
RUN_SAMPLER = f"{__name__}.RunSampler"


@dataclass(frozen=True)
class RunSampler:
    """The sampler in the config of the run that is sampled, with some of its options replaced. None = as the run.

    Args:
        steps, eta, clip, threshold, spacing, variance, noise_at_end: see the samplers, which have some of them each.
    """

    steps: int | None = None
    eta: float | None = None
    clip: bool | None = None
    threshold: float | None = None
    spacing: Spacing | None = None
    variance: str | None = None
    noise_at_end: bool | None = None

    @property
    def changes(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if value is not None}

    def node(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The config node of the sampler.

        Args:
            config: of the run. Without a sampler, it is DDIM.
        """
        own = own_node(config, "sampler") or {"_target_": RUN_SAMPLER}
        if own["_target_"] == RUN_SAMPLER:  # trained with sampler=run
            kept = {k: v for k, v in own.items() if v is not None}
            own = kept | {"_target_": f"{SHIPPED}.ddim.DDIM"}
        return own | self.changes

    def of(self, config: Mapping[str, Any], trusted: Collection[str]) -> Sampler:
        """The sampler of a run.

        Args:
            config: of the run, a stranger's data: its sampler must be one of this program or of a trusted package.

        Raises:
            ConfigError: the run's sampler lacks an option, does not accept its value, or is not trusted.
        """
        sampler: Sampler = build_own("sampler", self.node(config), SHIPPED, trusted)
        return sampler


def sampler_name(sampler: Sampler) -> str:
    """Its name as in sampler=NAME, which for the samplers of this program is the name of the file that defines it."""
    kind = type(sampler)
    return kind.__module__.rpartition(".")[2] if kind.__module__.startswith(f"{SHIPPED}.") else kind.__name__.lower()


def late_start(sampler: Sampler, schedule: Schedule) -> str:
    """A warning if the sampler's first time has much less noise than it is given; "" if not."""
    try:
        first = float(times_of(sampler, schedule)[0])
    except ValueError:  # reported elsewhere, with its key
        return ""
    spacing, steps = getattr(sampler, "spacing", None), getattr(sampler, "steps", None)
    late = spacing == "leading" and first < 0.8
    return f"sampler.spacing=leading with {steps} steps starts at t = {first:.2f}; use another spacing" if late else ""


def without_run(sampler: Sampler | RunSampler) -> Sampler:
    """The sampler where there is no run that could have one: sampler=run is DDIM there."""
    return sampler.of({}, ()) if isinstance(sampler, RunSampler) else sampler
